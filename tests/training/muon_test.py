"""Tests of solo_jax/training/muon.py, with singular values of NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.training.muon import orthogonalize, scale_by_muon


def lift(values):
  """Returns singular values after five steps of the quintic polynomial."""
  for _ in range(5):
    values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
  return values


def orthogonal(x):
  matrix = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
  left, values, right = np.linalg.svd(matrix, full_matrices=False)
  values = lift(values / np.sqrt(np.sum(values**2)))
  size = 0.2 * np.sqrt(max(matrix.shape))
  return (size * left * values @ right).reshape(x.shape)


@pytest.mark.parametrize("shape", [(3, 3, 8, 6), (5, 12), (4, 4), (7, 1)])
def test_orthogonalize_equals_the_polynomial_of_singular_values(shape):
  x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  found = jax.jit(orthogonalize)(1e-3 * x)
  np.testing.assert_allclose(found, orthogonal(x), atol=2e-5)


def test_updates_have_the_size_of_adamw():
  x = np.random.default_rng(1).normal(size=(3, 3, 32, 24))
  found = np.asarray(jax.jit(orthogonalize)(x.astype(np.float32)))
  assert 0.15 < np.sqrt(np.mean(found**2)) < 0.25


def test_zeros_stay_zeros():
  zeros = np.zeros((3, 3, 4, 2), np.float32)
  np.testing.assert_array_equal(jax.jit(orthogonalize)(zeros), 0)


def test_momentum_of_weights_and_adam_of_vectors():
  rng = np.random.default_rng(2)
  gradients = [
    dict(kernel=rng.normal(size=(6, 4)), bias=rng.normal(size=4))
    for _ in range(3)
  ]
  rule = scale_by_muon(lambda path, x: path[-1].key == "kernel")
  state = jax.jit(rule.init)(jax.tree.map(jnp.asarray, gradients[0]))
  update = jax.jit(rule.update)
  momentum, first, second = 0, 0, 0
  for t, gradient in enumerate(gradients, start=1):
    updates, state = update(gradient, state)
    momentum = 0.95 * momentum + gradient["kernel"]
    expected = orthogonal(0.95 * momentum + gradient["kernel"])
    np.testing.assert_allclose(updates["kernel"], expected, atol=1e-4)
    first = 0.9 * first + 0.1 * gradient["bias"]
    second = 0.999 * second + 0.001 * gradient["bias"] ** 2
    expected = first / (1 - 0.9**t)
    expected /= np.sqrt(second / (1 - 0.999**t)) + 1e-8
    np.testing.assert_allclose(updates["bias"], expected, rtol=1e-4)
