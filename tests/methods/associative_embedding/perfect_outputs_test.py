"""Tests of solo_jax/methods/associative_embedding/perfect_outputs.py."""

import pytest

from tests.methods.scene import (
  assert_decoder_finds_targets,
  assert_nothing_to_improve,
)

CONFIG = "associative_embedding_shapes"
ARGS = pytest.mark.parametrize("arg", ["", "loss=pull_push"])


@ARGS
def test_the_decoder_finds_exactly_the_targets(arg):
  assert_decoder_finds_targets(CONFIG, arg)


@ARGS
def test_the_loss_has_nothing_to_improve(arg):
  assert assert_nothing_to_improve(CONFIG, arg)["mask_iou"] > 0.98
