"""Tests of solo_jax/losses/smooth_l1.py."""

import jax
import numpy as np

from solo_jax.losses.smooth_l1 import smooth_l1_loss


def test_smooth_l1_loss_by_hand():
  codes = np.array([0.25, -0.25, 2.0, -2.0], np.float32)
  zeros = np.zeros(4, np.float32)
  for beta, expected in (
    (0.5, [0.0625, 0.0625, 1.75, 1.75]),
    (0.0, [0.25, 0.25, 2, 2]),
  ):
    found = smooth_l1_loss(codes, zeros, beta=beta)
    np.testing.assert_allclose(found, expected)


def test_gradient_is_bounded_and_zero_at_the_target():
  def total(codes):
    return smooth_l1_loss(codes, np.float32(1.0), beta=0.5).sum()

  codes = np.array([1.0, 1.25, 9.0, -9.0], np.float32)
  np.testing.assert_allclose(jax.grad(total)(codes), [0, 0.5, 1, -1])
