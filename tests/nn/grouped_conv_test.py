"""Tests of solo_jax/nn/grouped_conv.py."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.nn.grouped_conv import (
  GroupedConv,
  block_kernels,
  grouped_conv2d,
)


def draw(*shape, seed=0):
  values = np.random.default_rng(seed).standard_normal(shape)
  return values.astype(np.float32)


def group_after_group(x, kernel, stride):
  """One plain convolution per group."""
  groups = x.shape[-1] // kernel.shape[2]
  parts = zip(
    jnp.split(x, groups, axis=-1), jnp.split(kernel, groups, -1), strict=True
  )
  results = [
    jax.lax.conv_general_dilated(
      part,
      weights,
      (stride, stride),
      [(1, 1), (1, 1)],
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    for part, weights in parts
  ]
  return jnp.concatenate(results, axis=-1)


# 20 groups of 4 channels make 2 blocks of 10 groups; 2 groups of 70 two blocks.
@pytest.mark.parametrize(
  ("groups", "channels", "features", "stride"),
  [(20, 4, 40, 1), (2, 70, 6, 2), (4, 1, 8, 1)],
)
def test_values_and_gradients_group_after_group(
  groups, channels, features, stride
):
  x = draw(2, 5, 6, groups * channels)
  kernel = draw(3, 3, channels, features, seed=1)
  gradient = draw(2, -(-5 // stride), 6 // stride, features, seed=2)

  @functools.partial(jax.jit, static_argnums=0)
  def run(conv, *inputs):
    y, vjp = jax.vjp(lambda *args: conv(*args, stride), *inputs)
    return y, *vjp(gradient)

  for actual, expected in zip(
    run(grouped_conv2d, x, kernel),
    run(group_after_group, x, kernel),
    strict=True,
  ):
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_blocks_by_hand():
  # 6 groups of 1 channel, 2 outputs each, at most 4 channels a block.
  kernel = jnp.arange(1.0, 13.0).reshape(1, 1, 1, 12)
  blocks = block_kernels(kernel, groups=6, block_channels=4)
  assert blocks.shape == (2, 1, 1, 3, 6)
  np.testing.assert_array_equal(
    blocks[1, 0, 0],
    [[7, 8, 0, 0, 0, 0], [0, 0, 9, 10, 0, 0], [0, 0, 0, 0, 11, 12]],
  )


def test_one_group_is_one_block():
  kernel = draw(3, 3, 70, 5)
  blocks = block_kernels(kernel, groups=1, block_channels=4)
  np.testing.assert_array_equal(blocks, kernel[None])


def test_layer_has_the_parameter_of_a_grouped_convolution():
  init = nn.initializers.normal(1.0)
  layer = GroupedConv(6, 3, 2, 2, init, dtype=jnp.bfloat16)
  plain = nn.Conv(
    6,
    (3, 3),
    strides=2,
    padding=1,
    feature_group_count=2,
    use_bias=False,
    kernel_init=init,
  )
  x = draw(1, 7, 8, 4)
  variables = layer.init(jax.random.key(0), x)
  jax.tree.map(
    np.testing.assert_array_equal, variables, plain.init(jax.random.key(0), x)
  )
  y = layer.apply(variables, x)
  assert y.dtype == jnp.bfloat16
  # Inputs and result rounded to 8 bits.
  np.testing.assert_allclose(y, plain.apply(variables, x), atol=0.1)


def test_channels_must_fit_the_kernel():
  with pytest.raises(ValueError, match="multiple of 4 channels.*got 6"):
    grouped_conv2d(jnp.zeros((1, 4, 4, 6)), jnp.zeros((3, 3, 4, 8)), 1)
