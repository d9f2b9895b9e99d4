"""Convolution whose kernel gradient is fast on the CPU.

XLA computes the kernel's gradient on the CPU as a convolution with a kernel as
large as the map, at a third to a fifteenth of the speed of the forward pass.
Here it is one matrix product for each block of rows; see
`benchmarks/conv_gradient.py`.

Shape letters: B images, H, W size of the map, C, O channels, k kernel size.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.nn.linear_primitive import linear_primitive

# Pixels of a block: its shifted copies stay in a core's cache.
BLOCK_PIXELS = 1024


class Conv(nn.Conv):
  """`nn.Conv`, computed by `same_conv2d` on the CPU where they are equal.

  The formulation is chosen here, when the network is built: other platforms
  only get XLA's own convolution.
  """

  def __post_init__(self):
    """Chooses the formulation."""
    if jax.default_backend() == "cpu":
      object.__setattr__(self, "conv_general_dilated", conv_general_dilated)
    super().__post_init__()


def conv_general_dilated(
  lhs: jax.Array,
  rhs: jax.Array,
  window_strides: tuple[int, int],
  padding: str | Sequence[tuple[int, int]],
  **options,
) -> jax.Array:
  """Returns what `jax.lax.conv_general_dilated` would; used by `nn.Conv`.

  Args:
    lhs: [B, H, W, C] float.
    rhs: [k, k, C, O], dtype of `lhs`.
    window_strides: Spatial strides.
    padding: 'SAME', 'VALID', or low and high padding of both axes.
    **options: As `nn.Conv` passes them.

  Returns:
    The convolution; where an odd kernel lies over every stride-th pixel and no
    `precision` is requested, it is `same_conv2d`.
  """
  size = rhs.shape[0]
  if isinstance(padding, str):
    padding = jax.lax.padtype_to_pads(
      lhs.shape[1:3], rhs.shape[:2], window_strides, padding
    )
  stride = window_strides[0]
  is_centered = (
    size % 2 == 1
    and tuple(rhs.shape[:2]) == (size, size)
    and tuple(window_strides) == (stride, stride)
    and [tuple(side) for side in padding] == [(size // 2, size // 2)] * 2
    and options["feature_group_count"] == 1
    and tuple(options["lhs_dilation"]) == (1, 1)
    and tuple(options["rhs_dilation"]) == (1, 1)
    and options["precision"] is None
  )
  if is_centered:
    return same_conv2d(lhs, rhs, stride)
  return jax.lax.conv_general_dilated(
    lhs, rhs, window_strides, padding, **options
  )


def same_conv2d(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
  """Returns a convolution of every stride-th pixel, with zeros around the map.

  Linear in both arrays, with derivatives of any order and mode; only the
  transpose by the kernel has its own formulation, `kernel_gradient`.

  Args:
    x: [B, H, W, C] float.
    kernel: [k, k, C, O], dtype of `x`, k odd.
    stride: Distance of the centres of the kernel, from pixel 0.

  Returns:
    [B, H / stride, W / stride, O], sides rounded up, dtype of `x`.
  """
  return _same_conv(x, kernel, stride=stride)


def plain_conv(
  x: jax.Array, kernel: jax.Array, *, stride: int = 1
) -> jax.Array:
  """Returns `same_conv2d` by XLA's convolution, with XLA's derivatives."""
  padding = kernel.shape[0] // 2
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    [(padding, padding)] * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def kernel_gradient(
  x: jax.Array, gradient: jax.Array, *, size: int, stride: int = 1
) -> jax.Array:
  """Returns the gradient of `same_conv2d` with respect to its kernel.

  The gradient of tap (i, j) is the sum over pixels of x[stride r + i, stride s
  + j] and gradient[r, s]: matrix products of shifted copies, block by block.

  Args:
    x: [B, H, W, C] float.
    gradient: Gradient of the result. [B, H / stride, W / stride, O] float.
    size: k, odd.
    stride: Stride of the convolution.

  Returns:
    [k, k, C, O] float32.
  """
  margin = size // 2
  batch, height, width, _ = gradient.shape
  channels, features = x.shape[-1], gradient.shape[-1]
  rows = _block_rows(height, width)
  blocks = height // rows
  add_block, shape = _taps_side_by_side, (size * size * channels, features)
  if stride == 1:
    add_block, shape = _all_taps_at_once, (size * channels, size * features)
    gradient = jnp.pad(gradient, ((0, 0), (margin, margin), (0, 0), (0, 0)))
  else:
    x = jnp.pad(x, ((0, 0), (margin, margin), (0, 0), (0, 0)))

  def add(i, total):
    place = i // blocks, i % blocks * rows
    return total + add_block(x, gradient, place, (rows, width), size, stride)

  total = jax.lax.fori_loop(
    0, batch * blocks, add, jnp.zeros(shape, jnp.float32)
  )
  if stride > 1:
    return total.reshape(size, size, channels, features)
  total = total.reshape(size, channels, size, features)
  return total.transpose(2, 0, 1, 3)


def _all_taps_at_once(x, gradient, place, block_size, size, stride):
  """With x shifted k ways along rows and the gradient along columns.

  One product of [k C, pixels] and [pixels, k O] is all k^2 taps.
  """
  del stride  # 1
  (image, row), (rows, width), margin = place, block_size, size // 2
  block = jax.lax.dynamic_slice(
    x, (image, row, 0, 0), (1, rows, width, x.shape[-1])
  )[0]
  block = jnp.pad(block, ((0, 0), (margin, margin), (0, 0)))
  by_output = jax.lax.dynamic_slice(
    gradient,
    (image, row, 0, 0),
    (1, rows + 2 * margin, width, gradient.shape[-1]),
  )[0]
  left = [block[:, j : j + width] for j in range(size)]
  right = [by_output[size - 1 - i :][:rows] for i in range(size)]
  return _multiply(left, right)


def _taps_side_by_side(x, gradient, place, block_size, size, stride):
  """With x shifted k^2 ways, as shifts by less than a stride share no pixel."""
  (image, row), (rows, width), margin = place, block_size, size // 2
  block = jax.lax.dynamic_slice(
    x,
    (image, stride * row, 0, 0),
    (1, stride * (rows - 1) + size, *x.shape[2:]),
  )[0]
  block = jnp.pad(block, ((0, 0), (margin, margin), (0, 0)))
  by_output = jax.lax.dynamic_slice(
    gradient, (image, row, 0, 0), (1, rows, width, gradient.shape[-1])
  )[0]
  taps = [
    block[i:, j:][: stride * (rows - 1) + 1 : stride, ::stride][:, :width]
    for i in range(size)
    for j in range(size)
  ]
  return _multiply(taps, [by_output])


def _multiply(left, right):
  """Returns [sum of C, pixels] @ [pixels, sum of O] of [rows, width, ...]."""
  left, right = (
    jnp.concatenate(x, axis=-1).reshape(-1, sum(y.shape[-1] for y in x))
    for x in (left, right)
  )
  return jnp.matmul(left.T, right, preferred_element_type=jnp.float32)


def _block_rows(height: int, width: int) -> int:
  """Returns the most rows that divide the height and fit a block."""
  divisors = [n for n in range(1, height + 1) if height % n == 0]
  return max(n for n in divisors if n == 1 or n * width <= BLOCK_PIXELS)


def _by_x(gradient, x, kernel, *, stride):
  conv = functools.partial(plain_conv, kernel=kernel, stride=stride)
  return jax.linear_transpose(conv, x)(gradient)[0]


def _by_kernel(gradient, x, kernel, *, stride):
  size = kernel.shape[0]
  by_kernel = kernel_gradient(x, gradient, size=size, stride=stride)
  return by_kernel.astype(kernel.dtype)  # bfloat16 as it is


_same_conv = linear_primitive(plain_conv, (_by_x, _by_kernel))
