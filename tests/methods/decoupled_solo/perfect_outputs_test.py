"""Tests of solo_jax/methods/decoupled_solo/perfect_outputs.py."""

from tests.methods.scene import (
  assert_decoder_finds_targets,
  assert_nothing_to_improve,
)


def test_the_decoder_finds_exactly_the_targets():
  assert_decoder_finds_targets("decoupled_solo_shapes")


def test_the_loss_has_nothing_to_improve():
  assert assert_nothing_to_improve("decoupled_solo_shapes")["mask_loss"] < 0.01
