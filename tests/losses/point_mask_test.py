"""Tests of solo_jax/losses/point_mask.py."""

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.losses.point_mask import (
  pairwise_point_mask_losses,
  point_mask_losses,
)


def test_values_by_hand():
  # Probabilities 1/2 and 3/4, targets 1 and 0.
  logits = jnp.asarray([0.0, np.log(3)])
  entropy, dice = point_mask_losses(logits, jnp.asarray([1.0, 0.0]))
  np.testing.assert_allclose(entropy, (np.log(2) + np.log(4)) / 2, rtol=1e-6)
  # 1 - (2 * 1/2 + 1) / (5/4 + 1 + 1)
  np.testing.assert_allclose(dice, 1 - 2 / 3.25, rtol=1e-6)


def test_sure_and_right_costs_nothing_and_far_logits_are_finite():
  targets = jnp.asarray([1.0, 0.0, 1.0])
  logits = 200 * (2 * targets - 1)
  for loss in point_mask_losses(logits, targets):
    np.testing.assert_allclose(loss, 0, atol=1e-6)
  gradient = jax.grad(lambda x: sum(point_mask_losses(x, targets)))(-logits)
  assert np.isfinite(gradient).all()


def test_pairs_are_the_single_losses():
  rng = np.random.default_rng(0)
  logits = rng.standard_normal((2, 30, 4)).astype("f") * 3
  targets = rng.random((2, 3, 30)).astype("f")
  entropy, dice = pairwise_point_mask_losses(
    jnp.asarray(logits), jnp.asarray(targets)
  )
  for b, n, q in np.ndindex(2, 3, 4):
    expected = point_mask_losses(
      jnp.asarray(logits[b, :, q]), jnp.asarray(targets[b, n])
    )
    np.testing.assert_allclose(
      (entropy[b, n, q], dice[b, n, q]), expected, rtol=1e-5
    )
