"""Tests of solo_jax/methods/solov2/perfect_outputs.py."""

from tests.methods.scene import (
  assert_decoder_finds_targets,
  assert_nothing_to_improve,
)


def test_the_decoder_finds_exactly_the_targets():
  assert_decoder_finds_targets("solov2_shapes")


def test_the_loss_has_nothing_to_improve():
  assert assert_nothing_to_improve("solov2_shapes")["mask_loss"] < 0.01
