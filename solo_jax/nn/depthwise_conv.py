"""Depthwise convolution that is fast on CPU as well.

XLA's CPU backend runs a depthwise convolution, and its gradients even more
so, 6 to 200 times slower than the same sum written as shifted products.

Shape letters: B images, H, W input, h, w output, C channels, k kernel side.
"""

import functools
import operator
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.nn.linear_primitive import linear_primitive


class DepthwiseConv(nn.Module):
  """Depthwise convolution without bias, with TensorFlow's 'SAME' padding.

  Its parameter is that of `nn.Conv` with one group per channel: 'kernel',
  [k, k, 1, C].

  Attributes:
    kernel_size: Side k of the kernel.
    stride: Spatial stride.
    kernel_init: Initialiser of the kernel.
    dtype: Type of the convolution and of the result.
  """

  kernel_size: int
  stride: int
  kernel_init: nn.initializers.Initializer
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns [B, ceil(H / stride), ceil(W / stride), C] of [B, H, W, C]."""
    shape = (self.kernel_size, self.kernel_size, 1, x.shape[-1])
    kernel = self.param("kernel", self.kernel_init, shape)
    return depthwise_conv2d(
      x.astype(self.dtype), kernel.astype(self.dtype), self.stride
    )


def depthwise_conv2d(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """Returns each channel convolved with its own kernel, 'SAME' padding.

  On CPU a sum of shifted products, elsewhere the compiler's convolution.

  Args:
    x: [B, H, W, C] float.
    kernel: [k, k, 1, C], dtype of `x`.
    stride: Spatial stride.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), C], dtype of `x`; sums are float32.
  """
  return _depthwise_conv(x, kernel, stride=stride)


def _conv(x, kernel, *, stride):
  return jax.lax.platform_dependent(
    x,
    kernel,
    cpu=functools.partial(_shifted_conv, stride=stride),
    default=functools.partial(_compiler_conv, stride=stride),
  )


def _compiler_conv(x, kernel, *, stride):
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


def _shifted_conv(x, kernel, *, stride):
  size = kernel.shape[0]
  padded = _pad(x, size, stride).astype(jnp.float32)
  kernel = kernel.astype(jnp.float32)
  rows = -(-x.shape[1] // stride)
  products = [
    tap * kernel[i, j, 0]
    for i, j, tap in _taps(padded, size, stride, rows, -(-x.shape[2] // stride))
  ]
  return functools.reduce(operator.add, products).astype(x.dtype)


def _by_x(gradient, x, kernel, *, stride):
  def transposed(conv):
    conv = functools.partial(conv, stride=stride)
    return lambda kernel, gradient: jax.linear_transpose(
      lambda x: conv(x, kernel), x
    )(gradient)[0]

  return jax.lax.platform_dependent(
    kernel,
    gradient,
    cpu=transposed(_shifted_conv),
    default=transposed(_compiler_conv),
  )


def _by_kernel(gradient, x, kernel, *, stride):
  def transposed(x, gradient):
    conv = functools.partial(_compiler_conv, x, stride=stride)
    return jax.linear_transpose(conv, kernel)(gradient)[0]

  return jax.lax.platform_dependent(
    x,
    gradient,
    cpu=lambda x, gradient: _kernel_gradient(x, kernel, gradient, stride),
    default=transposed,
  )


def _kernel_gradient(x, kernel, gradient, stride):
  """Sums tap * gradient over images and pixels, row after row.

  The loop adds whole rows, elementwise: XLA's reduction over leading axes is
  5 to 10 times slower.
  """
  size, (batch, rows, columns, channels) = kernel.shape[0], gradient.shape
  padded = _pad(x, size, stride)

  def add_row(sums, row):
    factor = jax.lax.dynamic_slice_in_dim(gradient, row, 1, axis=1)
    factor = factor.astype(jnp.float32)
    window = jax.lax.dynamic_slice_in_dim(padded, row * stride, size, axis=1)
    window = window.astype(jnp.float32)
    taps = _taps(window, size, stride, 1, columns)
    return [
      total + (tap * factor)[:, 0]
      for total, (_, _, tap) in zip(sums, taps, strict=True)
    ], None

  sums = [jnp.zeros((batch, columns, channels))] * size**2
  sums, _ = jax.lax.scan(add_row, sums, jnp.arange(rows))
  sums = jnp.stack([total.sum(axis=(0, 1)) for total in sums])
  return sums.reshape(kernel.shape).astype(kernel.dtype)


def _pad(x: jax.Array, size: int, stride: int) -> jax.Array:
  """Returns x padded by TensorFlow's 'SAME' rule: odd zeros at the end."""
  widths = [(0, 0)]
  for length in x.shape[1:3]:
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    widths.append((total // 2, total - total // 2))
  return jnp.pad(x, [*widths, (0, 0)])


def _taps(
  padded: jax.Array, size: int, stride: int, rows: int, columns: int
) -> Iterator[tuple[int, int, jax.Array]]:
  """Yields (i, j, inputs of kernel[i, j]: [B, rows, columns, C])."""
  batch, _, _, channels = padded.shape
  for i in range(size):
    for j in range(size):
      end = (i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1)
      yield (
        i,
        j,
        jax.lax.slice(
          padded,
          (0, i, j, 0),
          (batch, *end, channels),
          (1, stride, stride, 1),
        ),
      )


_depthwise_conv = linear_primitive(_conv, (_by_x, _by_kernel))
