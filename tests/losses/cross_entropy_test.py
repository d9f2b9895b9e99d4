"""Tests of solo_jax/losses/cross_entropy.py."""

import jax
import numpy as np
from scipy.special import expit, softmax

from solo_jax.losses.cross_entropy import (
  sigmoid_cross_entropy,
  softmax_cross_entropy,
)


def test_softmax_cross_entropy_equals_scipy():
  rng = np.random.default_rng(0)
  logits = rng.normal(0, 3, (2, 5, 4)).astype(np.float32)
  labels = rng.integers(0, 4, (2, 5))
  probs = np.take_along_axis(softmax(logits, axis=-1), labels[..., None], -1)
  np.testing.assert_allclose(
    softmax_cross_entropy(logits, labels), -np.log(probs[..., 0]), rtol=1e-5
  )


def test_sigmoid_cross_entropy_of_soft_targets_equals_scipy():
  rng = np.random.default_rng(1)
  logits = rng.normal(0, 3, (3, 4)).astype(np.float32)
  targets = rng.uniform(size=(3, 4)).astype(np.float32)
  probs = expit(logits.astype(np.float64))
  expected = -targets * np.log(probs) - (1 - targets) * np.log(1 - probs)
  found = sigmoid_cross_entropy(logits, targets)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  gradient = jax.grad(lambda x: sigmoid_cross_entropy(x, targets).sum())(logits)
  np.testing.assert_allclose(gradient, probs - targets, atol=1e-6)


def test_large_logits_stay_finite():
  logits = np.array([1e4, -1e4], np.float32)
  targets = np.array([0.0, 1.0], np.float32)
  np.testing.assert_allclose(sigmoid_cross_entropy(logits, targets), [1e4, 1e4])
  gradient = jax.grad(lambda x: sigmoid_cross_entropy(x, targets).sum())(logits)
  np.testing.assert_allclose(gradient, [1, -1])


def test_gradient_at_zero():
  """Where prototypes or features are 0, logits are 0 exactly."""
  targets = np.array([0.0, 0.25, 1.0], np.float32)
  gradient = jax.grad(lambda x: sigmoid_cross_entropy(x, targets).sum())(
    np.zeros(3, np.float32)
  )
  np.testing.assert_allclose(gradient, 0.5 - targets, atol=1e-7)
