"""Tests of solo_jax/nn/deform_conv.py."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.nn.deform_conv import DeformConv, deform_conv2d

NHWC = (0, 2, 3, 1)
HWIO = (2, 3, 1, 0)


GEOMETRY = ("strides", "padding", "dilation")
# Compiled as a whole: its operations one by one take longer to compile.
compiled_deform_conv2d = jax.jit(deform_conv2d, static_argnames=GEOMETRY)


@functools.partial(jax.jit, static_argnames=GEOMETRY)
def run(x, offset, mask, kernel, gradient, **geometry):
  """Value and gradients by (x, offset, mask, kernel)."""
  y, vjp = jax.vjp(
    functools.partial(deform_conv2d, **geometry), x, offset, mask, kernel
  )
  return y, vjp(gradient)


@pytest.mark.golden("deform_conv*.npz")
def test_fixture_values_and_gradients(golden):
  for case, config in golden.config.items():

    def load(name, axes=NHWC, case=case):
      value = golden.arrays.get(f"{case}/{name}")
      return None if value is None else value.transpose(axes)

    y, gradients = run(
      load("x"),
      load("offset"),
      load("mask"),
      load("kernel", HWIO),
      load("y_gradient"),
      strides=config["stride"],
      padding=config["padding"],
      dilation=config["dilation"],
    )
    np.testing.assert_allclose(y, load("y"), atol=1e-5, err_msg=case)
    names = ("x", "offset", "mask", "kernel")
    for name, actual in zip(names, gradients, strict=True):
      axes = HWIO if name == "kernel" else NHWC
      expected = load(f"{name}_gradient", axes)
      assert (actual is None) == (expected is None), (case, name)
      if expected is None:
        continue
      # Sums of up to 84 products of numbers around 1; an offset multiplies
      # differences by its distance, up to 40.
      np.testing.assert_allclose(
        actual, expected, rtol=1e-4, atol=1e-4, err_msg=f"{case} {name}"
      )


def loop_deform_conv(x, offset, mask, kernel, strides, padding, dilation):
  """The definition, one corner at a time. float64."""
  size, (batch, height, width, channels) = kernel.shape[0], x.shape
  _, out_height, out_width, offsets = offset.shape
  groups = offsets // (2 * size**2)
  result = np.zeros((batch, out_height, out_width, kernel.shape[3]))
  for b, r, c, i, j, g in itertools.product(
    range(batch),
    range(out_height),
    range(out_width),
    range(size),
    range(size),
    range(groups),
  ):
    point = (g * size + i) * size + j
    dy, dx = offset[b, r, c, 2 * point : 2 * point + 2]
    y = r * strides - padding + i * dilation + float(dy)
    z = c * strides - padding + j * dilation + float(dx)
    part = slice(g * channels // groups, (g + 1) * channels // groups)
    sample = np.zeros(channels // groups)
    for row, column in itertools.product(
      (math.floor(y), math.floor(y) + 1), (math.floor(z), math.floor(z) + 1)
    ):
      if 0 <= row < height and 0 <= column < width:
        weight = (1 - abs(y - row)) * (1 - abs(z - column))
        sample += weight * x[b, row, column, part]
    if mask is not None:
      sample *= mask[b, r, c, point]
    result[b, r, c] += sample @ kernel[i, j, part]
  return result


def draw(*shape, scale=1.0, seed=0):
  values = np.random.default_rng(seed).standard_normal(shape) * scale
  return values.astype(np.float32)


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_equals_the_definition(groups, modulated):
  x, kernel = draw(2, 5, 7, 4), draw(3, 3, 4, 3, seed=1)
  offset = draw(2, 3, 4, groups * 18, scale=3.0, seed=2)
  # Whole and half positions, too, and some exactly at and beyond the borders.
  offset[:, 1:] = np.round(2 * offset[:, 1:]) / 2
  mask = draw(2, 3, 4, groups * 9, seed=3) if modulated else None
  geometry = dict(strides=2, padding=1, dilation=1)
  actual = compiled_deform_conv2d(x, offset, mask, kernel, **geometry)
  expected = loop_deform_conv(x, offset, mask, kernel, **geometry)
  np.testing.assert_allclose(actual, expected, atol=1e-5)


def conv(x, kernel, stride, padding, dilation=1, groups=1):
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [(padding, padding)] * 2,
    rhs_dilation=(dilation, dilation),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )


@pytest.mark.parametrize(
  ("stride", "padding", "dilation", "groups"),
  [(1, 1, 1, 1), (2, 1, 1, 1), (1, 2, 2, 2), (2, 0, 1, 4)],
)
def test_zero_offsets_are_a_plain_convolution(
  stride, padding, dilation, groups
):
  x, kernel = draw(2, 7, 8, 8), draw(3, 3, 8 // groups, 8, seed=1)

  @jax.jit
  def plain(x, kernel):
    expected, vjp = jax.vjp(
      lambda *args: conv(*args, stride, padding, dilation, groups), x, kernel
    )
    return expected, vjp(draw(*expected.shape, seed=2))

  expected, wanted = plain(x, kernel)
  gradient = draw(*expected.shape, seed=2)
  actual, gradients = run(
    x,
    jnp.zeros((*expected.shape[:3], 18)),
    None,
    kernel,
    gradient,
    strides=stride,
    padding=padding,
    dilation=dilation,
  )
  np.testing.assert_allclose(actual, expected, atol=1e-5)
  for one, other in zip(gradients[::3], wanted, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_by_hand_half_a_pixel_outside():
  x = jnp.asarray([[1.0, 2.0], [3.0, 5.0]]).reshape(1, 2, 2, 1)
  kernel = jnp.ones((1, 1, 1, 1))

  def sample(dy, dx):
    offset = jnp.asarray([dy, dx]) * jnp.ones((1, 2, 2, 1))
    return compiled_deform_conv2d(x, offset, None, kernel)[0, 0, 0, 0]

  np.testing.assert_allclose(sample(0.5, 0.5), (1 + 2 + 3 + 5) / 4)
  np.testing.assert_allclose(sample(-0.5, 0.0), 1 / 2)
  np.testing.assert_allclose(sample(-0.5, -0.5), 1 / 4)
  np.testing.assert_allclose(sample(1.25, 1.0), 5 * 0.75)
  assert sample(-1.0, 0.0) == sample(2.0, 0.0) == 0
  # Left to right, the first row rises by 1 per pixel.
  np.testing.assert_allclose(jax.jit(jax.grad(sample, 1))(0.0, 0.0), 1)


@pytest.mark.parametrize("far", [1e4, 3e9, 1e30, -1e30, np.inf])
def test_far_samples_are_zero_without_gradient(far):
  x, kernel = draw(1, 4, 4, 2), draw(3, 3, 2, 2, seed=1)
  offset = np.full((1, 4, 4, 18), far, np.float32)
  y, gradients = run(
    x, offset, None, kernel, draw(1, 4, 4, 2), strides=1, padding=1, dilation=1
  )
  for value in (y, *jax.tree.leaves(gradients)):
    np.testing.assert_array_equal(value, 0)


def test_images_are_independent():
  x, kernel = draw(3, 4, 5, 2), draw(3, 3, 2, 2, seed=1)
  offset, mask = draw(3, 4, 5, 18, seed=2), draw(3, 4, 5, 9, seed=3)
  together = compiled_deform_conv2d(x, offset, mask, kernel, padding=1)
  alone = compiled_deform_conv2d(
    x[1:2], offset[1:2], mask[1:2], kernel, padding=1
  )
  np.testing.assert_allclose(together[1:2], alone, atol=1e-6)


def test_bfloat16_positions_are_exact():
  # Column 300 + 0.25 does not exist in bfloat16 (steps of 2 there).
  x = np.zeros((1, 1, 320, 1), np.float32)
  x[0, 0, 300] = 1
  offset = np.tile(np.float32([0, 0.25]), (1, 1, 320, 1))
  kernel = jnp.ones((1, 1, 1, 1), jnp.bfloat16)
  y = compiled_deform_conv2d(jnp.asarray(x, jnp.bfloat16), offset, None, kernel)
  assert y.dtype == jnp.bfloat16
  assert (y[0, 0, 299, 0], y[0, 0, 300, 0]) == (0.25, 0.75)


@pytest.mark.parametrize(("modulated", "share"), [(False, 1.0), (True, 0.5)])
def test_layer_starts_as_a_plain_convolution(modulated, share):
  layer = DeformConv(6, stride=2, modulated=modulated, groups=2)
  x = draw(1, 6, 8, 4)
  variables = jax.jit(layer.init)(jax.random.key(0), x)
  params = variables["params"]
  assert params["kernel"].shape == (3, 3, 2, 6)
  channels = 27 if modulated else 18
  assert params["offset"]["kernel"].shape == (3, 3, 4, channels)
  assert not any(np.any(a) for a in jax.tree.leaves(params["offset"]))
  expected = share * conv(x, params["kernel"], 2, 1, groups=2)
  np.testing.assert_allclose(
    jax.jit(layer.apply)(variables, x), expected, atol=1e-5
  )


def test_layer_predicts_offsets_then_mask_logits():
  layer = DeformConv(3, modulated=True)
  x = draw(2, 5, 6, 2)
  params = jax.jit(layer.init)(jax.random.key(0), x)["params"]
  predictor = {"kernel": draw(3, 3, 2, 27), "bias": draw(27, seed=1)}
  variables = {"params": params | {"offset": predictor}}
  actual = jax.jit(layer.apply)(variables, x)
  prediction = conv(x, predictor["kernel"], 1, 1) + predictor["bias"]
  mask = 1 / (1 + np.exp(-prediction[..., 18:]))
  expected = loop_deform_conv(
    x, prediction[..., :18], mask, params["kernel"], 1, 1, 1
  )
  np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_layer_in_bfloat16_keeps_float32_parameters():
  layer = DeformConv(4, dtype=jnp.bfloat16)
  x = draw(1, 4, 4, 3)

  @jax.jit
  def run_layer(key):
    variables = layer.init(key, x)

    def total(variables):
      y = layer.apply(variables, x)
      return y.astype(jnp.float32).sum(), y

    return jax.grad(total, has_aux=True)(variables)

  gradient, y = run_layer(jax.random.key(0))
  assert y.dtype == jnp.bfloat16
  for leaf in jax.tree.leaves(gradient):
    assert leaf.dtype == jnp.float32
    assert np.any(leaf)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(offset=(1, 4, 5, 18)), r"offset must be \(1, 4, 4\) with.*\(1, 4, 5"),
    (dict(offset=(1, 4, 4, 20)), "a multiple of 18 channels.*20"),
    (dict(mask=(1, 4, 4, 18)), r"mask must be \(1, 4, 4, 9\).*4, 18"),
    (dict(offset=(1, 4, 4, 54), mask=(1, 4, 4, 27)), "4 channels: not a.* 3 d"),
    (dict(kernel=(3, 3, 3, 2)), "4 channels: not a multiple.* 3 input"),
  ],
)
def test_bad_shapes(change, message):
  shapes = dict(
    x=(1, 4, 4, 4),
    offset=(1, 4, 4, 18),
    mask=(1, 4, 4, 9),
    kernel=(3, 3, 4, 2),
  )
  arrays = {k: jnp.zeros(v) for k, v in (shapes | change).items()}
  with pytest.raises(ValueError, match=message):
    deform_conv2d(**arrays, padding=1)
