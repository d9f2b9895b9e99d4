"""Tests of solo_jax/nn/attention.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.nn.attention import (
  Attention,
  Perceptron,
  layer_norm,
  sine_positions,
)
from tests.random_variables import random_variables


@pytest.mark.golden("m2f_pixel_decoder*.npz")
def test_fixture_positions(golden):
  expected = golden.channels_last("position_embedding_1")[0]
  actual = sine_positions(*expected.shape)
  np.testing.assert_allclose(
    actual.reshape(expected.shape), expected, atol=2e-5
  )


def attend(params, query, key, value, blocked):
  """Attention of one head by its formula, in float64."""

  def project(x, name):
    layer = params[name]
    return np.asarray(x, np.float64) @ layer["kernel"] + layer["bias"]

  query, key, value = (
    project(x, name)
    for x, name in ((query, "query"), (key, "key"), (value, "value"))
  )
  scores = query @ key.T / np.sqrt(query.shape[-1])
  weights = np.where(blocked, 0, np.exp(scores))
  weights /= weights.sum(-1, keepdims=True)
  return project(weights @ value, "out")


def test_attention_by_its_formula():
  rng = np.random.default_rng(0)
  query, key, value = (
    rng.standard_normal((2, n, 4)).astype("f") for n in (3, 5, 5)
  )
  blocked = rng.random((2, 3, 5)) < 0.5
  blocked[..., 2] = False
  layer = Attention(num_heads=1)
  variables = random_variables(layer.init, query, key, value)
  result = jax.jit(layer.apply)(variables, query, key, value, blocked)
  for i in range(2):
    np.testing.assert_allclose(
      result[i],
      attend(variables["params"], query[i], key[i], value[i], blocked[i]),
      atol=1e-5,
    )


def test_heads_do_not_mix():
  # A key that only the first head's channels tell apart moves no more than
  # the first half of the values.
  rng = np.random.default_rng(0)
  query, key = (rng.standard_normal((1, n, 4)).astype("f") for n in (2, 3))
  layer = Attention(num_heads=2)
  variables = random_variables(layer.init, query, key, key)
  apply = jax.jit(layer.apply)
  for part in variables["params"].values():
    part["kernel"] = np.eye(4, dtype="f")
  first = np.asarray(apply(variables, query, key, key))
  other = key.copy()
  other[..., :2] *= 3
  second = np.asarray(apply(variables, query, other, key))
  np.testing.assert_array_equal(first[..., 2:], second[..., 2:])
  assert np.abs(first - second)[..., :2].max() > 0.01


def test_perceptron_has_relu_between_its_layers_only():
  layer = Perceptron((1, 1))
  params = {
    "layer_0": dict(kernel=jnp.full((1, 1), 2.0), bias=jnp.full(1, -1.0)),
    "layer_1": dict(kernel=jnp.full((1, 1), -3.0), bias=jnp.full(1, 1.0)),
  }
  x = jnp.asarray([[0.0], [2.0]])
  np.testing.assert_array_equal(layer.apply({"params": params}, x), [[1], [-8]])


def test_layer_norm_keeps_digits_far_from_zero():
  x = 1000 + np.linspace(-1, 1, 8, dtype="f")
  norm = layer_norm(jnp.float32)
  (result, _) = jax.jit(norm.init_with_output)(jax.random.key(0), x)
  exact = x.astype(np.float64) - x.astype(np.float64).mean()
  exact /= np.sqrt((exact**2).mean() + 1e-5)
  np.testing.assert_allclose(result, exact, atol=1e-4)
