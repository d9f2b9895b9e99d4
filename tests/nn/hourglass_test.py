"""Tests of solo_jax/nn/hourglass.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import correlate

from solo_jax.nn.hourglass import Hourglass, StackedHourglass

KEY = jax.random.key(0)
HOURGLASS = Hourglass(channels=4, depth=2, num_groups=2)
NAMES = ["skip_0", "down_0", "skip_1", "down_1", "bottom", "up_1", "up_0"]

apply = jax.jit(HOURGLASS.apply)


@pytest.fixture(scope="module")
def variables():
  """Random kernels, scales and biases of an hourglass of 2 halvings."""
  shapes = jax.eval_shape(HOURGLASS.init, KEY, jnp.zeros((1, 8, 8, 4)))
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: np.float32(rng.normal(size=x.shape) + 0.2), shapes
  )


def conv_by_loops(x, params):
  """3x3 convolution, group norm of 2 groups of 2 channels, ReLU. [H, W, 4]."""
  kernel = params["conv"]["kernel"]
  y = np.zeros(x.shape)
  for i in range(4):
    for o in range(4):
      y[..., o] += correlate(x[..., i], kernel[..., i, o], mode="constant")
  for group in (slice(0, 2), slice(2, 4)):
    mean, variance = y[..., group].mean(), y[..., group].var()
    y[..., group] = (y[..., group] - mean) / np.sqrt(variance + 1e-5)
  return np.maximum(y * params["norm"]["scale"] + params["norm"]["bias"], 0)


def hourglass_by_loops(x, params, level=0):
  """Figure 3 of the paper, from the outside in. [H, W, 4]."""
  if level == 2:
    return conv_by_loops(x, params["bottom"])
  height, width = x.shape[:2]
  half = np.zeros(((height + 1) // 2, (width + 1) // 2, 4))
  for i, j in np.ndindex(half.shape[:2]):
    # The last cell of an odd side has one row or column only.
    half[i, j] = x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max(axis=(0, 1))
  inner = conv_by_loops(half, params[f"down_{level}"])
  inner = hourglass_by_loops(inner, params, level + 1)
  inner = conv_by_loops(inner, params[f"up_{level}"])
  y = conv_by_loops(x, params[f"skip_{level}"])
  for i, j in np.ndindex(height, width):
    y[i, j] += inner[i // 2, j // 2]
  return y


@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
def test_equals_the_loops(variables, size):
  x = np.random.default_rng(1).normal(size=(2, *size, 4))
  y = apply(variables, np.float32(x))
  for image, result in zip(x, y, strict=True):
    expected = hourglass_by_loops(image, variables["params"])
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4)


def test_parameters_are_those_of_three_convolutions_a_level_and_one(variables):
  shapes = jax.tree.map(np.shape, variables["params"])
  one = dict(conv=dict(kernel=(3, 3, 4, 4)), norm=dict(scale=(4,), bias=(4,)))
  assert shapes == {name: one for name in NAMES}


def test_every_size_comes_back(variables):
  for height, width in enumerate([6, 1, 2, 13, 3, 4, 7, 1, 9], start=1):
    x = jax.ShapeDtypeStruct((2, height, width, 4), jnp.float32)
    assert jax.eval_shape(HOURGLASS.apply, variables, x) == x


def test_an_hourglass_of_depth_zero_has_one_block():
  flat = Hourglass(channels=4, depth=0, num_groups=2)
  shapes = jax.eval_shape(flat.init, KEY, jnp.zeros((1, 3, 3, 4)))
  assert set(shapes["params"]) == {"bottom"}


def test_result_has_the_compute_type_and_parameters_are_float32():
  module = Hourglass(channels=4, depth=1, num_groups=2, dtype=jnp.bfloat16)
  x = jax.ShapeDtypeStruct((1, 5, 3, 4), jnp.bfloat16)
  y, variables = jax.eval_shape(module.init_with_output, KEY, x)
  assert y == x
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {
    np.dtype(np.float32)
  }


def test_biases_add_up_by_hand(variables):
  """Without kernels every convolution is its bias: only two reach the end."""
  params = jax.tree.map(np.zeros_like, variables["params"])
  for i, name in enumerate(NAMES):
    params[name]["norm"]["bias"] = np.full(4, 10.0**i, np.float32)
  y = apply({"params": params}, np.ones((1, 8, 8, 4), np.float32))
  np.testing.assert_array_equal(y, 1 + 1e6)  # skip_0 and up_0


def test_gradient_reaches_every_parameter_and_the_innermost_level(variables):
  """With every path open, and through the bottom alone."""
  x = np.float32(np.random.default_rng(2).normal(size=(1, 8, 8, 4)))
  by_params = jax.jit(jax.grad(lambda p: jnp.sum(apply({"params": p}, x) ** 2)))
  gradient = jax.device_get(by_params(variables["params"]))
  assert set(gradient) == set(NAMES)
  for path, leaf in jax.tree.leaves_with_path(gradient):
    assert np.abs(leaf).max() > 0, path
  params = jax.tree.map(np.copy, variables["params"])
  for name in ("skip_0", "skip_1"):
    params[name]["norm"]["scale"][:] = 0  # the skips now carry nothing
    params[name]["norm"]["bias"][:] = -1
  gradient = jax.device_get(by_params(params))
  for leaf in jax.tree.leaves(gradient["skip_0"]):
    np.testing.assert_array_equal(leaf, 0)
  for name in ("bottom", "down_1", "down_0"):
    assert np.abs(gradient[name]["conv"]["kernel"]).max() > 0, name


def test_stacks_are_residual(variables):
  x = jax.random.normal(KEY, (1, 8, 8, 4))
  none = StackedHourglass(num_stacks=0, channels=4, depth=2, num_groups=2)
  np.testing.assert_array_equal(none.apply({}, x), x)
  two = StackedHourglass(num_stacks=2, channels=4, depth=2, num_groups=2)
  second = jax.tree.map(lambda x: -x, variables["params"])
  stacked = {"hourglass_0": variables["params"], "hourglass_1": second}
  y = x + apply(variables, x)
  np.testing.assert_allclose(
    jax.jit(two.apply)({"params": stacked}, x),
    y + apply({"params": second}, y),
    rtol=1e-4,
    atol=1e-4,
  )
