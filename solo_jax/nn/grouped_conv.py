"""Grouped convolution (ResNeXt) that can also be trained on CPU.

XLA's CPU backend needs up to a minute for one layer's kernel gradient.

Shape letters: B images, H, W input, C input channels, O output channels, k
kernel side.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.nn.linear_primitive import linear_primitive

# Input channels of a dense block that replaces several groups: the fastest on
# CPU, although most of its products are with zeros.
BLOCK_CHANNELS = 64


class GroupedConv(nn.Module):
  """Grouped convolution without bias, zero padding k // 2 on each side.

  Its parameter is that of `nn.Conv`: 'kernel', [k, k, C / groups, features].

  Attributes:
    features: Output channels, a multiple of `groups`.
    kernel_size: Side k of the kernel, odd.
    stride: Spatial stride.
    groups: Groups of channels that the kernel connects; divides C.
    kernel_init: Initialiser of the kernel.
    dtype: Type of the convolution and of the result.
  """

  features: int
  kernel_size: int
  stride: int
  groups: int
  kernel_init: nn.initializers.Initializer
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns [B, H / stride, W / stride, features] of a map [B, H, W, C]."""
    size = self.kernel_size
    shape = (size, size, x.shape[-1] // self.groups, self.features)
    kernel = self.param("kernel", self.kernel_init, shape)
    return grouped_conv2d(
      x.astype(self.dtype), kernel.astype(self.dtype), self.stride
    )


def grouped_conv2d(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """Returns each group of channels convolved with its own kernel.

  On CPU a dense convolution for each block of groups, elsewhere the
  compiler's grouped convolution.

  Args:
    x: [B, H, W, C] float.
    kernel: [k, k, C / groups, O], dtype of `x`, k odd; the number of groups
      follows from its shape.
    stride: Spatial stride; padding is k // 2 on each side.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), O], dtype of `x`.

  Raises:
    ValueError: If C is not a multiple of the kernel's input channels.
  """
  if x.shape[-1] % kernel.shape[2]:
    raise ValueError(
      f"x must have a multiple of {kernel.shape[2]} channels, the third axis "
      f"of kernel {kernel.shape}; got {x.shape[-1]}."
    )
  return _grouped_conv(x, kernel, stride=stride)


def _chosen_conv(x, kernel, *, stride):
  return jax.lax.platform_dependent(
    x,
    kernel,
    cpu=functools.partial(_block_conv, stride=stride),
    default=functools.partial(_conv, stride=stride),
  )


def _by_x(gradient, x, kernel, *, stride):
  def transposed(conv):
    return lambda kernel, gradient: jax.linear_transpose(
      lambda x: conv(x, kernel, stride=stride), x
    )(gradient)[0]

  return jax.lax.platform_dependent(
    kernel, gradient, cpu=transposed(_block_conv), default=transposed(_conv)
  )


def _by_kernel(gradient, x, kernel, *, stride):
  def transposed(conv):
    return lambda x, gradient: jax.linear_transpose(
      lambda kernel: conv(x, kernel, stride=stride), kernel
    )(gradient)[0]

  return jax.lax.platform_dependent(
    x, gradient, cpu=transposed(_block_conv), default=transposed(_conv)
  )


def _conv(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
  padding = kernel.shape[0] // 2
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [(padding, padding)] * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1] // kernel.shape[2],
  )


def _block_conv(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
  groups = x.shape[-1] // kernel.shape[2]
  blocks = block_kernels(kernel, groups, BLOCK_CHANNELS)
  results = [
    _conv(part, block, stride=stride)
    for part, block in zip(
      jnp.split(x, len(blocks), axis=-1), blocks, strict=True
    )
  ]
  return jnp.concatenate(results, axis=-1)


def block_kernels(
  kernel: jax.Array, groups: int, block_channels: int
) -> jax.Array:
  """Returns a grouped kernel with neighbouring groups gathered in dense blocks.

  Args:
    kernel: [k, k, C / groups, O].
    groups: Number of groups.
    block_channels: Input channels that a block should have at most; a block is
      one group where groups are larger.

  Returns:
    n dense kernels, each with the largest possible number of whole groups on
    its diagonal and zeros elsewhere. [n, k, k, C / n, O / n].
  """
  size, _, channels, features = kernel.shape
  num_joined = max(
    count
    for count in range(1, groups + 1)
    if groups % count == 0
    and (count == 1 or count * channels <= block_channels)
  )
  num_blocks, group_features = groups // num_joined, features // groups
  kernel = kernel.reshape(
    size, size, channels, num_blocks, num_joined, group_features
  )
  kernel = kernel.transpose(3, 0, 1, 4, 2, 5)  # [n, k, k, joined, c, o]
  diagonal = jnp.eye(num_joined, dtype=kernel.dtype)
  dense = kernel[..., None, :] * diagonal[:, None, :, None]
  return dense.reshape(
    num_blocks,
    size,
    size,
    num_joined * channels,
    num_joined * group_features,
  )


_grouped_conv = linear_primitive(_chosen_conv, (_by_x, _by_kernel))
