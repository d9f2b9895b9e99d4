"""Tests of solo_jax/nn/layers.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from solo_jax.nn.layers import (
  ConvGN,
  append_coordinates,
  coordinates,
  depth_to_space,
  make_norm,
  normalize_image,
)
from tests.random_variables import random_variables

normalize = jax.jit(
  normalize_image, static_argnames=("mean", "std", "channel_order")
)


def test_normalize_by_hand_with_zero_padding():
  image = np.full((2, 2, 3, 3), 50, np.uint8)
  image[..., 2] = 90
  result = normalize(
    image,
    np.asarray([[2, 3], [1, 2]], np.int32),
    mean=(40, 50, 60),
    std=(2, 5, 10),
    channel_order="rgb",
  )
  np.testing.assert_array_equal(
    result[0], np.broadcast_to([5, 0, 3], (2, 3, 3))
  )
  np.testing.assert_array_equal(result[1, 0, :2], [[5, 0, 3], [5, 0, 3]])
  np.testing.assert_array_equal(result[1, 0, 2:], 0)
  np.testing.assert_array_equal(result[1, 1], 0)


def test_normalize_bgr_reverses_channels_before_mean_and_std():
  image = np.zeros((1, 1, 1, 3), np.uint8)
  image[..., 0] = 30  # red
  size = np.ones((1, 2), np.int32)
  result = normalize(
    image, size, mean=(1, 2, 3), std=(1, 1, 3), channel_order="bgr"
  )
  np.testing.assert_array_equal(result.ravel(), [-1, -2, 9])


def test_normalize_dtype_and_unknown_order():
  image, size = np.zeros((1, 2, 2, 3), np.uint8), np.ones((1, 2), np.int32)
  kwargs = dict(mean=(0, 0, 0), std=(1, 1, 1))
  result = normalize_image(
    image, size, channel_order="rgb", dtype=jnp.bfloat16, **kwargs
  )
  assert result.dtype == jnp.bfloat16
  with pytest.raises(ValueError, match="'rgb' or 'bgr', got 'grb'"):
    normalize_image(image, size, channel_order="grb", **kwargs)


def test_coordinates_include_both_ends_x_first():
  grid = coordinates(3, 5)
  np.testing.assert_array_equal(grid[0, :, 0], [-1, -0.5, 0, 0.5, 1])
  np.testing.assert_array_equal(grid[:, 0, 1], [-1, 0, 1])
  assert grid.shape == (3, 5, 2)


def test_conv_gn_equals_scipy():
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, 6, 5, 3))
  kernel = rng.standard_normal((3, 3, 3, 4))
  scale, bias = rng.standard_normal((2, 4))
  convolved = np.zeros((2, 6, 5, 4))
  for b, c_in, c_out in np.ndindex(2, 3, 4):
    convolved[b, :, :, c_out] += scipy.signal.correlate2d(
      x[b, :, :, c_in], kernel[:, :, c_in, c_out], mode="same"
    )
  groups = convolved.reshape(2, 30, 2, 2)  # channels 0, 1 and 2, 3
  mean = groups.mean(axis=(1, 3), keepdims=True)
  variance = groups.var(axis=(1, 3), keepdims=True)
  normalized = ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(2, 6, 5, 4)
  expected = np.maximum(normalized * scale + bias, 0)

  params = {"conv": {"kernel": kernel}, "norm": {"scale": scale, "bias": bias}}
  params = jax.tree.map(lambda a: a.astype(np.float32), params)
  result = jax.jit(ConvGN(4, num_groups=2).apply)(
    {"params": params}, x.astype(np.float32)
  )
  np.testing.assert_allclose(result, expected, atol=1e-5)


def test_conv_gn_in_bfloat16_keeps_float32_parameters():
  layer = ConvGN(4, kernel_size=1, num_groups=2, dtype=jnp.bfloat16)
  x = jnp.ones((1, 2, 2, 3))
  result, variables = jax.eval_shape(
    layer.init_with_output, jax.random.key(0), x
  )
  assert result.dtype == jnp.bfloat16
  assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(variables))


def test_conv_gn_with_a_deformable_convolution():
  rng = np.random.default_rng(0)
  x = rng.standard_normal((1, 4, 5, 3)).astype(np.float32)
  plain = ConvGN(4, num_groups=2)
  expected, variables = jax.jit(plain.init_with_output)(jax.random.key(0), x)
  params = variables["params"]
  for deformable, channels in (("v1", 18), ("v2", 27)):
    layer = ConvGN(4, num_groups=2, deformable=deformable)
    conv = jax.jit(layer.init)(jax.random.key(1), x)["params"]["conv"]
    assert conv["offset"]["kernel"].shape == (3, 3, 3, channels)
    assert conv["kernel"].shape == (3, 3, 3, 4)
    # v2 starts with half the value.
    kernel = params["conv"]["kernel"] * (1 if deformable == "v1" else 2)
    variables = params | {"conv": {**conv, "kernel": kernel}}
    result = jax.jit(layer.apply)({"params": variables}, x)
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_conv_gn_of_an_unknown_kind():
  with pytest.raises(ValueError, match="None, 'v1' or 'v2', got 'dcn'"):
    ConvGN(4, num_groups=2, deformable="dcn").init(
      jax.random.key(0), jnp.ones((1, 2, 2, 3))
    )


def run_norm(norm, x, *, train, dtype=jnp.float32, axis_name=None):
  layer = make_norm(norm, train=train, dtype=dtype, axis_name=axis_name)()
  running = {"mean": jnp.full(2, 3.0), "var": jnp.full(2, 4.0)}
  params = {"scale": jnp.ones(2), "bias": jnp.zeros(2)}
  result, update = jax.jit(
    functools.partial(layer.apply, mutable=["batch_stats"])
  )({"params": params, "batch_stats": running}, x)
  return result, update["batch_stats"]


def test_batch_norm_uses_and_records_the_batch_in_training():
  x = jnp.asarray([[0.0, 1.0], [2.0, 5.0]])  # means 1, 3; variances 1, 4
  result, stats = run_norm("batch", x, train=True)
  np.testing.assert_allclose(result, [[-1, -1], [1, 1]], atol=1e-5)
  np.testing.assert_allclose(stats["mean"], [2.8, 3.0], rtol=1e-6)
  np.testing.assert_allclose(stats["var"], [3.7, 4.0], rtol=1e-6)


@pytest.mark.parametrize(
  ("norm", "train"), [("frozen", True), ("frozen", False), ("batch", False)]
)
def test_running_statistics_apply_and_stay(norm, train):
  result, stats = run_norm(norm, jnp.asarray([[5.0, 1.0]]), train=train)
  np.testing.assert_allclose(result, [[1, -1]], atol=1e-5)
  np.testing.assert_array_equal(stats["mean"], [3, 3])
  np.testing.assert_array_equal(stats["var"], [4, 4])


def test_sync_norm_sees_all_devices():
  x = np.random.default_rng(0).standard_normal((8, 2)).astype(np.float32)
  shards = x.reshape(2, 4, 2)
  expected, stats = run_norm("batch", x, train=True)
  result, shard_stats = jax.vmap(
    lambda x: run_norm("sync", x, train=True, axis_name="device"),
    axis_name="device",
  )(shards)
  np.testing.assert_allclose(result.reshape(8, 2), expected, atol=1e-5)
  for name in stats:
    np.testing.assert_allclose(shard_stats[name][0], stats[name], rtol=1e-5)
    np.testing.assert_array_equal(shard_stats[name][0], shard_stats[name][1])


def test_statistics_of_bfloat16_are_float32():
  # 1000 + {0, 1} has a spacing of 4 in bfloat16; 200 + {0, 1} is exact, but
  # a bfloat16 sum of 512 of them is not.
  x = jnp.asarray([[200.0, 0], [201.0, 1]] * 256, jnp.bfloat16)
  _, stats = run_norm("batch", x, train=True, dtype=jnp.bfloat16)
  expected = 0.9 * 3 + 0.1 * np.asarray([200.5, 0.5])
  np.testing.assert_allclose(stats["mean"], expected, rtol=1e-5)


def test_constant_norm_learns_nothing():
  x = jnp.asarray([[1.0, 2.0], [3.0, 5.0]])

  def gradients(norm):
    layer = make_norm(norm, train=True, dtype=jnp.float32, axis_name=None)()
    variables = random_variables(layer.init, x)
    value, gradient = jax.jit(
      jax.value_and_grad(
        lambda params: layer.apply(variables | dict(params=params), x).sum()
      )
    )(variables["params"])
    return float(value), jax.tree.map(np.asarray, gradient)

  value, gradient = gradients("constant")
  expected, learned = gradients("frozen")
  assert value == expected
  assert gradient["scale"].tolist() == gradient["bias"].tolist() == [0, 0]
  assert learned["bias"].tolist() == [2, 2]


def test_unknown_norm():
  with pytest.raises(ValueError, match="norm must be one of.*got 'layer'"):
    make_norm("layer", train=True, dtype=jnp.float32, axis_name=None)


def test_group_norm_has_no_running_statistics():
  rng = np.random.default_rng(0)
  x = rng.normal(3, 2, (2, 4, 5, 64)).astype(np.float32)
  norm = make_norm("group", train=True, dtype=jnp.float32, axis_name=None)()
  variables = norm.init(jax.random.key(0), x)
  assert set(variables) == {"params"}
  groups = x.reshape(2, 20, 32, 2)
  mean = groups.mean((1, 3), keepdims=True)
  var = groups.var((1, 3), keepdims=True)
  expected = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(x.shape)
  np.testing.assert_allclose(norm.apply(variables, x), expected, atol=1e-5)


def test_coordinates_are_the_last_two_channels():
  x = append_coordinates(jnp.full((2, 3, 5, 1), 7.0))
  np.testing.assert_allclose(x[1, 0, :, 1], [-1, -0.5, 0, 0.5, 1])
  np.testing.assert_allclose(x[1, :, 0, 2], [-1, 0, 1])
  np.testing.assert_allclose(x[..., 0], 7)


def test_depth_to_space_by_hand():
  x = jnp.arange(8.0).reshape(1, 1, 1, 8)  # 2 x 2 block of 2 channels
  result = depth_to_space(x, 2)
  np.testing.assert_array_equal(result[0], [[[0, 1], [2, 3]], [[4, 5], [6, 7]]])
