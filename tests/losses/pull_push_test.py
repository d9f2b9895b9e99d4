"""Tests of solo_jax/losses/pull_push.py."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from solo_jax.losses.pull_push import pull_loss, push_loss


def scene(num_tags=3, seed=0):
  """Tags of 20 pixels, means of 4 instances and overlapping weights."""
  rng = np.random.default_rng(seed)
  weights = np.float32(rng.random((4, 20)) * (rng.random((4, 20)) > 0.5))
  return (
    np.float32(rng.normal(size=(20, num_tags))),
    np.float32(rng.normal(size=(4, num_tags))),
    weights,
  )


@pytest.mark.parametrize("num_tags", [1, 3])
def test_pull_equals_a_loop_over_pixels(num_tags):
  tags, means, weights = scene(num_tags)
  expected = []
  for mean, weight in zip(means, weights, strict=True):
    distances = [np.sum(np.square(tag - mean)) for tag in np.float64(tags)]
    expected.append(np.average(distances, weights=weight) / num_tags)
  np.testing.assert_allclose(
    pull_loss(tags, means, weights), expected, rtol=1e-5
  )


@pytest.mark.parametrize("num_tags", [1, 3])
def test_push_equals_a_loop_over_pairs(num_tags):
  means = scene(num_tags)[1]
  valid = np.array([True, False, True, True])
  pairs = list(itertools.combinations(np.float64(means[valid]), 2))
  expected = 0.5 * np.mean([np.exp(-np.sum((a - b) ** 2)) for a, b in pairs])
  np.testing.assert_allclose(push_loss(means, valid), expected, rtol=1e-5)


def test_by_hand():
  tags = np.float32([[0, 0], [2, 0], [5, 5]])
  # Mean (1, 0), half of each of the first two pixels: (1 + 1) / 2 / 2 tags.
  loss = pull_loss(tags, np.float32([[1, 0]]), np.float32([[0.5, 0.5, 0]]))
  np.testing.assert_allclose(loss, [0.5], rtol=1e-6)
  # One pair at distance 1: half of exp(-1).
  loss = push_loss(np.float32([[0], [1]]), np.ones(2, bool))
  np.testing.assert_allclose(loss, 0.5 * np.exp(-1), rtol=1e-6)


def test_gradients_are_finite_differences():
  tags, means, weights = scene()
  check_grads(
    lambda t, m: pull_loss(t, m, weights).sum(), (tags, means), 1, ["rev"]
  )
  valid = np.array([True, True, False, True])
  check_grads(lambda m: push_loss(m, valid), (means,), 1, ["rev"])


def test_instances_without_pixels_and_padding_count_nothing():
  tags, means, weights = scene()
  weights[1] = 0
  gradient = jax.grad(lambda m: pull_loss(tags, m, weights).sum())(means)
  assert pull_loss(tags, means, weights)[1] == 0
  np.testing.assert_array_equal(gradient[1], 0)
  padded = np.concatenate([means, np.full((3, 3), 1e3, np.float32)])
  valid = np.ones(4, bool)
  np.testing.assert_allclose(
    push_loss(padded, np.append(valid, [False] * 3)),
    push_loss(means, valid),
    rtol=1e-6,
  )


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_instances_push_nothing(count):
  means = scene()[1]
  loss, gradient = jax.value_and_grad(push_loss)(
    jnp.asarray(means), np.arange(4) < count
  )
  assert loss == 0
  np.testing.assert_array_equal(gradient, 0)
