"""Tests of solo_jax/losses/pull_push.py."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.losses import pull_push
from solo_jax.losses.instance_means import instance_means
from tests.target_masks import pack_rows

pull_loss = jax.jit(pull_push.pull_loss)
push_loss = jax.jit(pull_push.push_loss)


def pull_by_loops(tags, means, weights):
  """Mean of (h - mean)^2 over the pixels and the numbers of a tag."""
  losses = []
  for mean, weight in zip(means, weights, strict=True):
    total = 0.0
    for tag, share in zip(tags, weight, strict=True):
      total += share * np.mean((tag - mean) ** 2)
    losses.append(total / weight.sum() if weight.sum() else 0.0)
  return np.array(losses)


def push_by_loops(means):
  """Half the mean of exp(-d^2) over unordered pairs."""
  pairs = itertools.combinations(means, 2)
  terms = [np.exp(-np.sum((a - b) ** 2)) for a, b in pairs]
  return 0.5 * sum(terms) / max(len(terms), 1)


def slopes(function, x):
  """Central differences in float64, one element at a time."""
  steps = 1e-6 * np.eye(x.size).reshape(-1, *x.shape)
  rises = [function(x + step) - function(x - step) for step in steps]
  return np.reshape(rises, x.shape) / 2e-6


def scene(num_tags=3):
  """Tags of 12 pixels, means of 4 instances and overlapping weights."""
  rng = np.random.default_rng(0)
  return (
    np.float32(rng.normal(size=(12, num_tags))),
    np.float32(rng.normal(size=(4, num_tags))),
    np.float32(rng.random((4, 12)) * (rng.random((4, 12)) > 0.5)),
  )


@pytest.mark.parametrize("num_tags", [1, 3])
def test_values_equal_the_loops(num_tags):
  tags, means, weights = scene(num_tags)
  np.testing.assert_allclose(
    pull_loss(tags, means, weights),
    pull_by_loops(np.float64(tags), means, weights),
    rtol=1e-5,
  )
  valid = np.array([True, False, True, True])
  np.testing.assert_allclose(
    push_loss(means, valid), push_by_loops(np.float64(means[valid])), rtol=1e-5
  )


def test_pull_and_push_losses_by_hand():
  tags = np.float32([[0, 0], [2, 0], [5, 5]])
  # Mean (1, 0), half of each of the first two pixels: (1 + 1) / 2 / 2 tags.
  loss = pull_loss(tags, np.float32([[1, 0]]), np.float32([[0.5, 0.5, 0]]))
  np.testing.assert_allclose(loss, [0.5], rtol=1e-6)
  # One pair at distance 1: half of exp(-1).
  loss = push_loss(np.float32([[0], [1]]), np.ones(2, bool))
  np.testing.assert_allclose(loss, 0.5 * np.exp(-1), rtol=1e-6)


def test_a_pixel_of_two_instances_is_pulled_by_both():
  """Tags 0, 2 and 8; the middle pixel belongs to both, the last is alone."""
  tags = np.float32([[0], [2], [8]])
  weights = np.float32([[1, 1, 0], [0, 1, 1], [0, 0, 1]])
  means = np.float32([[1], [5], [8]])  # the last instance is one pixel
  np.testing.assert_allclose(
    pull_loss(tags, means, weights), [1, 9, 0], rtol=1e-5, atol=1e-9
  )
  gradient = jax.jit(jax.grad(lambda t: pull_loss(t, means, weights).sum()))(
    tags
  )
  # 2 (h - mean) / 2 pixels: 1 beyond the first mean, 3 before the second.
  np.testing.assert_allclose(gradient, [[-1], [1 - 3], [3]], rtol=1e-5)


def test_the_published_sum_and_its_gradient():
  """Eq. 1 with means of the sampled tags, through which gradients flow too."""
  rng = np.random.default_rng(7)
  bits = rng.random((4, 16)) > 0.6  # they overlap
  bits[1] = np.arange(16) == 5  # one pixel
  bits[3] = False  # padding
  packed = pack_rows(bits[None])
  valid = np.array([True, True, True, False])
  tags = rng.normal(size=(16, 2))

  def by_loops(tags):
    means = np.array([tags[inside].mean(axis=0) for inside in bits[:3]])
    pull = pull_by_loops(tags, means, np.float64(bits[:3]))
    return pull.mean() + push_by_loops(means)

  @jax.jit
  @jax.value_and_grad
  def loss(tags):
    means = instance_means(tags[None], packed, valid[None])[0][0]
    pull = pull_loss(tags, means, packed.unpack().reshape(4, 16))
    return jnp.sum(pull) / 3 + push_loss(means, valid)

  value, gradient = loss(np.float32(tags))
  np.testing.assert_allclose(value, by_loops(tags), rtol=1e-5)
  np.testing.assert_allclose(
    gradient, slopes(by_loops, tags), rtol=1e-4, atol=1e-5
  )


def test_gradients_of_given_means_are_finite_differences():
  tags, means, weights = scene()
  gradient = jax.jit(jax.grad(lambda m: pull_loss(tags, m, weights).sum()))(
    means
  )
  expected = slopes(
    lambda m: pull_by_loops(tags, m, weights).sum(), np.float64(means)
  )
  np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


def test_order_and_padding_do_not_matter():
  tags, means, weights = scene()
  padded = np.concatenate([means[::-1], np.full((3, 3), 1e3, np.float32)])
  np.testing.assert_allclose(
    push_loss(padded, np.arange(7) < 4),
    push_loss(means, np.ones(4, bool)),
    rtol=1e-6,
  )
  # Instances reversed, with 3 more instances and 2 more pixels of no weight.
  np.testing.assert_allclose(
    pull_loss(
      np.concatenate([tags, np.full((2, 3), 9, np.float32)]),
      padded,
      np.pad(weights[::-1], [(0, 3), (0, 2)]),
    ),
    np.append(np.flip(pull_loss(tags, means, weights)), [0, 0, 0]),
    rtol=2e-5,
  )


def test_instances_without_pixels_pull_nothing():
  tags, means, weights = scene()
  weights[1] = 0
  loss, gradient = jax.jit(
    jax.value_and_grad(lambda m: pull_loss(tags, m, weights)[1])
  )(means)
  assert loss == 0
  np.testing.assert_array_equal(gradient, 0)


def test_fewer_than_two_instances_push_nothing():
  means = scene()[1]
  push = jax.jit(jax.value_and_grad(push_loss))
  for count in (0, 1):
    loss, gradient = push(means, np.arange(4) < count)
    assert loss == 0
    np.testing.assert_array_equal(gradient, 0)


def test_equal_means_are_pushed_with_half_and_stay_finite():
  """All tags are equal where training starts: every pair costs one half."""
  loss, gradient = jax.jit(jax.value_and_grad(push_loss))(
    np.zeros((3, 2), np.float32), np.ones(3, bool)
  )
  np.testing.assert_allclose(loss, 0.5, rtol=1e-6)
  np.testing.assert_array_equal(gradient, 0)
