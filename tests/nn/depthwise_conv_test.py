"""Tests of solo_jax/nn/depthwise_conv.py."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from solo_jax.nn.depthwise_conv import DepthwiseConv, depthwise_conv2d


def make_inputs(height=9, width=6, channels=3, size=3):
  rng = np.random.default_rng(0)
  x = rng.standard_normal((2, height, width, channels))
  kernel = rng.standard_normal((size, size, 1, channels))
  return x.astype(np.float32), kernel.astype(np.float32)


def plain_conv(x, kernel, stride):
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


# (9, 6) at stride 2 pads the rows on both sides, the columns on one.
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
def test_values_and_gradients_equal_a_plain_convolution(size, stride):
  x, kernel = make_inputs(size=size)
  shape = (2, -(-9 // stride), -(-6 // stride), 3)
  gradient = np.random.default_rng(1).standard_normal(shape)
  gradient = gradient.astype(np.float32)

  @functools.partial(jax.jit, static_argnums=0)
  def run(conv, *inputs):
    y, vjp = jax.vjp(lambda *args: conv(*args, stride), *inputs)
    return y, *vjp(gradient)

  for actual, expected in zip(
    run(depthwise_conv2d, x, kernel), run(plain_conv, x, kernel), strict=True
  ):
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_values_equal_scipy():
  x, kernel = make_inputs()
  actual = jax.jit(depthwise_conv2d, static_argnums=2)(x, kernel, 1)
  for b, c in np.ndindex(2, 3):
    expected = scipy.signal.correlate2d(
      x[b, :, :, c], kernel[:, :, 0, c], mode="same"
    )
    np.testing.assert_allclose(actual[b, :, :, c], expected, atol=1e-5)


def test_bfloat16_is_rounded_once():
  # 1 + 24 x 2^-8: added one by one in bfloat16, each term would vanish.
  x = np.full((1, 5, 5, 1), 2.0**-8, np.float32)
  x[0, 0, 0] = 1
  ones = jnp.ones((5, 5, 1, 1), jnp.bfloat16)

  @jax.jit
  def run(*inputs):
    y, vjp = jax.vjp(lambda *args: depthwise_conv2d(*args, 1), *inputs)
    return y, vjp(jnp.ones_like(y))

  y, gradients = run(jnp.asarray(x, jnp.bfloat16), ones)
  assert y.dtype == jnp.bfloat16
  assert y[0, 2, 2, 0] == 1.09375  # exactly 1 + 24 / 256
  assert [g.dtype for g in gradients] == [jnp.bfloat16] * 2
  assert gradients[1][2, 2, 0, 0] == 1.09375  # the same sum


def test_layer_has_the_parameter_of_a_grouped_convolution():
  init = nn.initializers.normal(1.0)
  layer = DepthwiseConv(3, 2, init, dtype=jnp.bfloat16)
  plain = nn.Conv(
    4,
    (3, 3),
    strides=2,
    feature_group_count=4,
    use_bias=False,
    kernel_init=init,
  )
  x = np.random.default_rng(0).standard_normal((1, 7, 8, 4))
  x = x.astype(np.float32)
  variables = layer.init(jax.random.key(0), x)
  jax.tree.map(
    np.testing.assert_array_equal, variables, plain.init(jax.random.key(0), x)
  )
  y = layer.apply(variables, x)
  assert y.dtype == jnp.bfloat16
  # Inputs rounded to 8 bits.
  np.testing.assert_allclose(y, plain.apply(variables, x), atol=0.05)
