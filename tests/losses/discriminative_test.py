"""Tests of solo_jax/losses/discriminative.py."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from solo_jax.losses.discriminative import (
  distance_loss,
  regularization_loss,
  variance_loss,
)


@pytest.fixture
def scene():
  """Tags of 20 pixels, means of 4 instances and overlapping weights."""
  rng = np.random.default_rng(1)
  weights = np.float32(rng.random((4, 20)) * (rng.random((4, 20)) > 0.5))
  return (
    np.float32(rng.normal(size=(20, 3))),
    np.float32(rng.normal(size=(4, 3))),
    weights,
  )


def test_variance_equals_a_loop_over_pixels(scene):
  tags, means, weights = scene
  expected = []
  for mean, weight in zip(means, weights, strict=True):
    hinges = [max(0, np.linalg.norm(t - mean) - 0.5) ** 2 for t in tags]
    expected.append(np.average(hinges, weights=weight))
  np.testing.assert_allclose(
    variance_loss(tags, means, weights, margin=0.5), expected, rtol=1e-5
  )


def test_distance_equals_a_loop_over_pairs(scene):
  means = scene[1]
  valid = np.array([True, True, False, True])
  # Over ordered pairs, as in eq. 2: each pair twice, over C (C - 1).
  hinges = [
    max(0, 3 - np.linalg.norm(a - b)) ** 2
    for a, b in itertools.permutations(means[valid], 2)
  ]
  np.testing.assert_allclose(
    distance_loss(means, valid, margin=1.5), np.mean(hinges), rtol=1e-5
  )


def test_by_hand():
  tags = np.float32([[0, 0], [3, 4]])
  mean = np.zeros((1, 2), np.float32)
  # At distance 5 with margin 2: 3^2, half of the weight.
  loss = variance_loss(tags, mean, np.float32([[1, 1]]), margin=2.0)
  np.testing.assert_allclose(loss, [4.5], rtol=1e-6)
  # Means 5 apart, kept 6 apart: 1^2; their norms are 0 and 5.
  both, valid = np.float32([[0, 0], [3, 4]]), np.ones(2, bool)
  np.testing.assert_allclose(distance_loss(both, valid, margin=3.0), 1)
  np.testing.assert_allclose(regularization_loss(both, valid), 2.5)


def test_nothing_is_pulled_or_pushed_beyond_the_margins():
  tags = np.float32([[0.1, 0], [0, -0.3]])
  mean = np.zeros((1, 2), np.float32)
  weights = np.ones((1, 2), np.float32)
  gradient = jax.grad(
    lambda t: variance_loss(t, mean, weights, margin=0.5).sum()
  )(tags)
  np.testing.assert_array_equal(gradient, 0)
  means = np.float32([[0, 0], [3.1, 0]])
  gradient = jax.grad(distance_loss)(means, np.ones(2, bool), margin=1.5)
  np.testing.assert_array_equal(gradient, 0)


def test_gradients_are_finite_differences(scene):
  tags, means, weights = scene
  valid = np.array([True, True, False, True])
  check_grads(
    lambda t, m: variance_loss(t, m, weights, margin=0.5).sum(),
    (tags, means),
    1,
    ["rev"],
  )
  check_grads(
    lambda m: distance_loss(m, valid, margin=1.5), (means,), 1, ["rev"]
  )
  check_grads(lambda m: regularization_loss(m, valid), (means,), 1, ["rev"])


def test_equal_means_and_empty_instances_have_finite_gradients():
  """The root's slope is infinite at 0, where training may start."""
  means = jnp.zeros((3, 2))
  tags, weights = jnp.zeros((4, 2)), jnp.zeros((3, 4))

  def total(means, valid):
    return (
      variance_loss(tags, means, weights, margin=0.0).sum()
      + distance_loss(means, valid, margin=1.5)
      + regularization_loss(means, valid)
    )

  for count in (0, 1, 3):
    loss, gradient = jax.value_and_grad(total)(means, np.arange(3) < count)
    assert np.isfinite(gradient).all()
    # Three equal means: each pair is 3 short.
    np.testing.assert_allclose(loss, 9.0 if count == 3 else 0.0)


def test_order_and_padding_of_instances_do_not_matter(scene):
  means = scene[1]
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
