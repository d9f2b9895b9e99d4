"""Tests of solo_jax/losses/discriminative.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.losses import discriminative
from solo_jax.losses.instance_means import instance_means
from tests.target_masks import pack_rows

variance_loss = jax.jit(discriminative.variance_loss)
distance_loss = jax.jit(discriminative.distance_loss)
regularization_loss = jax.jit(discriminative.regularization_loss)


def variance_by_loops(tags, means, weights, margin):
  """Eq. 1 without the mean over instances."""
  losses = []
  for mean, weight in zip(means, weights, strict=True):
    total = 0.0
    for tag, share in zip(tags, weight, strict=True):
      total += share * max(0, np.linalg.norm(mean - tag) - margin) ** 2
    losses.append(total / weight.sum() if weight.sum() else 0.0)
  return np.array(losses)


def distance_by_loops(means, margin):
  """Eq. 2: ordered pairs, so each pair twice, over C (C - 1)."""
  total = 0.0
  for a in range(len(means)):
    for b in range(len(means)):
      if a != b:
        apart = np.linalg.norm(means[a] - means[b])
        total += max(0, 2 * margin - apart) ** 2
  return total / max(len(means) * (len(means) - 1), 1)


def slopes(function, x):
  """Central differences in float64, one element at a time."""
  steps = 1e-6 * np.eye(x.size).reshape(-1, *x.shape)
  rises = [function(x + step) - function(x - step) for step in steps]
  return np.reshape(rises, x.shape) / 2e-6


@pytest.fixture
def scene():
  """Tags of 12 pixels, means of 4 instances and overlapping weights."""
  rng = np.random.default_rng(1)
  return (
    np.float32(rng.normal(size=(12, 3))),
    np.float32(rng.normal(size=(4, 3))),
    np.float32(rng.random((4, 12)) * (rng.random((4, 12)) > 0.5)),
  )


def test_values_equal_the_loops(scene):
  tags, means, weights = scene
  np.testing.assert_allclose(
    variance_loss(tags, means, weights, margin=0.5),
    variance_by_loops(np.float64(tags), means, weights, 0.5),
    rtol=1e-5,
  )
  valid = np.array([True, True, False, True])
  np.testing.assert_allclose(
    distance_loss(means, valid, margin=1.5),
    distance_by_loops(np.float64(means[valid]), 1.5),
    rtol=1e-5,
  )
  norms = [np.sqrt(np.sum(mean**2)) for mean in np.float64(means[valid])]
  np.testing.assert_allclose(
    regularization_loss(means, valid), np.mean(norms), rtol=1e-5
  )


def test_discriminative_losses_by_hand():
  tags = np.float32([[0, 0], [3, 4]])
  mean = np.zeros((1, 2), np.float32)
  # At distance 5 with margin 2: 3^2, half of the weight.
  loss = variance_loss(tags, mean, np.float32([[1, 1]]), margin=2.0)
  np.testing.assert_allclose(loss, [4.5], rtol=1e-6)
  # Means 5 apart, kept 6 apart: 1^2; their norms are 0 and 5.
  valid = np.ones(2, bool)
  np.testing.assert_allclose(distance_loss(tags, valid, margin=3.0), 1)
  np.testing.assert_allclose(regularization_loss(tags, valid), 2.5)


def test_a_pixel_of_two_instances_is_pulled_by_both():
  """Tags 0, 2 and 8; the middle pixel belongs to both, the last is alone."""
  tags = np.float32([[0], [2], [8]])
  weights = np.float32([[1, 1, 0], [0, 1, 1], [0, 0, 1]])
  means = np.float32([[1], [5], [8]])  # the last instance is one pixel
  np.testing.assert_allclose(
    variance_loss(tags, means, weights, margin=0.5),
    [0.5**2, 2.5**2, 0],
    rtol=1e-5,
    atol=1e-9,
  )
  gradient = jax.jit(
    jax.grad(lambda t: variance_loss(t, means, weights, margin=0.5).sum())
  )(tags)
  # 2 hinge / 2 pixels: 0.5 away from the first mean, 2.5 from the second.
  np.testing.assert_allclose(gradient, [[-0.5], [0.5 - 2.5], [2.5]], rtol=1e-5)


def test_the_published_sum_and_its_gradient():
  """Eqs. 1 to 4 with means of the tags, differentiated through the means."""
  rng = np.random.default_rng(7)
  masks = np.uint8(255 * (rng.random((4, 16)) > 0.6))  # they overlap
  masks[1] = 0
  masks[1, 5] = 255  # one pixel
  masks[3] = 0  # padding
  valid = np.array([True, True, True, False])
  packed = pack_rows(masks[None])
  tags = rng.normal(size=(16, 2))

  def by_loops(tags):
    means = np.array([tags[mask > 0].mean(axis=0) for mask in masks[:3]])
    return (
      variance_by_loops(tags, means, masks[:3] / 255, 0.5).mean()
      + distance_by_loops(means, 1.5)
      + 0.1 * np.mean(np.linalg.norm(means, axis=1))
    )

  @jax.jit
  @jax.value_and_grad
  def loss(tags):
    means = instance_means(tags[None], packed, valid[None])[0][0]
    weights = packed.unpack().reshape(4, 16)
    return (
      jnp.sum(variance_loss(tags, means, weights, margin=0.5)) / 3
      + distance_loss(means, valid, margin=1.5)
      + 0.1 * regularization_loss(means, valid)
    )

  value, gradient = loss(np.float32(tags))
  np.testing.assert_allclose(value, by_loops(tags), rtol=1e-5)
  np.testing.assert_allclose(
    gradient, slopes(by_loops, tags), rtol=1e-4, atol=1e-5
  )


def test_gradients_of_given_means_are_finite_differences(scene):
  tags, means, weights = scene
  gradient = jax.jit(
    jax.grad(lambda m: variance_loss(tags, m, weights, margin=0.5).sum())
  )(means)
  expected = slopes(
    lambda m: variance_by_loops(tags, m, weights, 0.5).sum(), np.float64(means)
  )
  np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


def test_nothing_is_pulled_or_pushed_beyond_the_margins():
  tags = np.float32([[0.1, 0], [0, -0.3]])
  means = np.float32([[0, 0], [3.1, 0]])
  weights = np.float32([[1, 1], [0, 0]])

  @jax.jit
  def gradients(tags, means):
    return (
      jax.grad(lambda t: variance_loss(t, means, weights, margin=0.5).sum())(
        tags
      ),
      jax.grad(lambda m: distance_loss(m, np.ones(2, bool), margin=1.5))(means),
    )

  for gradient in gradients(tags, means):
    np.testing.assert_array_equal(gradient, 0)


def test_equal_means_and_empty_instances_have_finite_gradients():
  """The root's slope is infinite at 0, where training may start."""
  tags, weights = jnp.zeros((4, 2)), jnp.zeros((3, 4))

  @jax.jit
  @jax.value_and_grad
  def total(means, valid):
    return (
      variance_loss(tags, means, weights, margin=0.0).sum()
      + distance_loss(means, valid, margin=1.5)
      + regularization_loss(means, valid)
    )

  for count in (0, 1, 3):
    loss, gradient = total(jnp.zeros((3, 2)), np.arange(3) < count)
    np.testing.assert_array_equal(gradient, 0)
    # Three equal means: each pair is 3 short.
    np.testing.assert_allclose(loss, 9.0 if count == 3 else 0.0)


def test_order_and_padding_do_not_matter(scene):
  tags, means, weights = scene
  padded = np.concatenate([means[::-1], np.full((2, 3), 50, np.float32)])
  valid = np.arange(6) < 4
  np.testing.assert_allclose(
    distance_loss(padded, valid, margin=1.5),
    distance_loss(means, valid[:4], margin=1.5),
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    regularization_loss(padded, valid),
    regularization_loss(means, valid[:4]),
    rtol=1e-6,
  )
  # Instances reversed, with 3 more pixels and 2 more instances of no weight.
  np.testing.assert_allclose(
    variance_loss(
      np.concatenate([tags, np.full((3, 3), 9, np.float32)]),
      padded,
      np.pad(weights[::-1], [(0, 2), (0, 3)]),
      margin=0.5,
    ),
    np.append(np.flip(variance_loss(tags, means, weights, margin=0.5)), [0, 0]),
    rtol=2e-5,
  )
