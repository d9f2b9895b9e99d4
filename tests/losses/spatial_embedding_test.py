"""Tests of solo_jax/losses/spatial_embedding.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from solo_jax.losses.spatial_embedding import (
  jaccard,
  mask_loss,
  membership,
  spread_loss,
)


@pytest.fixture
def scene():
  """Embedding of 20 pixels, centres and log precisions of 3 instances."""
  rng = np.random.default_rng(4)
  return (
    np.float32(rng.normal(size=(20, 2))),
    np.float32(rng.normal(size=(3, 2))),
    np.float32(rng.normal(size=3)),
  )


def test_membership_equals_a_loop(scene):
  embedding, centers, log_precision = scene
  expected = np.zeros((3, 20))
  for n in range(3):
    for q in range(20):
      squares = np.sum((np.float64(embedding[q]) - centers[n]) ** 2)
      logit = 4 * (1 - np.exp(np.float64(log_precision[n])) * squares)
      expected[n, q] = 1 / (1 + np.exp(-logit))
  np.testing.assert_allclose(membership(*scene), expected, rtol=1e-4, atol=1e-6)


def test_membership_is_one_half_at_the_radius():
  radius = 3.0
  probs = membership(
    np.float32([[0, 0], [radius, 0], [0, 2 * radius]]),
    np.zeros((1, 2), np.float32),
    np.float32([-2 * np.log(radius)]),
  )
  sigmoid = 1 / (1 + np.exp([-4.0, 0.0, 12.0]))
  np.testing.assert_allclose(probs[0], sigmoid, rtol=1e-4)


def test_gradients_are_finite_differences(scene):
  embedding, centers, log_precision = scene
  weights = np.float32(np.random.default_rng(5).random((3, 20)) > 0.5)

  def dice(*maps):
    return mask_loss(membership(*maps), weights, kind="dice")[0].sum()

  check_grads(dice, (embedding, centers, log_precision), 1, ["rev"], rtol=1e-2)
  values = np.float32(np.random.default_rng(6).normal(size=20))
  check_grads(
    lambda v, m: spread_loss(v, m, weights).sum(),
    (values, log_precision),
    1,
    ["rev"],
  )


def test_losses_by_hand():
  probs = np.float32([[1.0, 0.75, 0.25, 0.0]])
  weights = np.float32([[1, 0, 1, 0]])
  # Shared 1.25; squares 1.625 and 2.
  dice, iou = mask_loss(probs, weights, kind="dice")
  np.testing.assert_allclose(dice, [1 - 2.5 / 3.627], rtol=1e-5)
  np.testing.assert_allclose(iou, [1 / 3], rtol=1e-6)  # of 1100 and 1010
  # Hinge errors 0, 1.5, 1.5 and 0: the two wrong pixels take the IoU to 1/3.
  lovasz, _ = mask_loss(probs, weights, kind="lovasz")
  np.testing.assert_allclose(lovasz, [1.5 * 2 / 3], rtol=1e-5)
  # (1 - 2)^2 and (4 - 2)^2 of weights 1 and 1/2.
  spread = spread_loss(
    np.float32([1, 4, 9]), np.float32([2]), np.float32([[1, 0.5, 0]])
  )
  np.testing.assert_allclose(spread, [(1 + 0.5 * 4) / 1.5], rtol=1e-6)


def test_perfect_masks_lose_nothing():
  weights = np.float32([[1, 1, 0, 0], [0, 0, 0, 1]])
  for kind in ("dice", "lovasz"):
    loss, iou = mask_loss(weights, weights, kind=kind)
    np.testing.assert_allclose(loss, 0, atol=2e-3)  # dice adds 1e-3
    np.testing.assert_array_equal(iou, 1)


def test_empty_masks_are_defined():
  empty = np.zeros((1, 4), np.float32)
  np.testing.assert_array_equal(jaccard(empty, empty), [0])
  assert spread_loss(np.ones(4, np.float32), np.ones(1), empty) == 0
  for kind in ("dice", "lovasz"):
    gradient = jax.grad(
      lambda p, kind=kind: mask_loss(p, empty, kind=kind)[0].sum()
    )(jnp.full((1, 4), 0.3))
    assert np.isfinite(gradient).all()


def test_kinds_are_named():
  one = np.ones((1, 1), np.float32)
  with pytest.raises(ValueError, match="'dice' or 'lovasz', not 'iou'"):
    mask_loss(one, one, kind="iou")
