"""Convolution whose kernel gradient is fast on the CPU.

XLA computes the kernel's gradient on the CPU as a convolution with a kernel as
large as the map, at a third to a fifteenth of the speed of the forward pass.
Here it is one matrix product for each block of rows; see
`benchmarks/conv_gradient.py`.

Shape letters: B images, H, W size of the map, C, O channels, k kernel size.
"""

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
    The convolution; where it keeps the size of the map and no `precision` is
    requested, it is `same_conv2d`.
  """
  size = rhs.shape[0]
  if isinstance(padding, str):
    padding = jax.lax.padtype_to_pads(
      lhs.shape[1:3], rhs.shape[:2], window_strides, padding
    )
  keeps_size = (
    size % 2 == 1
    and tuple(rhs.shape[:2]) == (size, size)
    and tuple(window_strides) == (1, 1)
    and [tuple(side) for side in padding] == [(size // 2, size // 2)] * 2
    and options["feature_group_count"] == 1
    and tuple(options["lhs_dilation"]) == (1, 1)
    and tuple(options["rhs_dilation"]) == (1, 1)
    and options["precision"] is None
  )
  if keeps_size:
    return same_conv2d(lhs, rhs)
  return jax.lax.conv_general_dilated(
    lhs, rhs, window_strides, padding, **options
  )


def same_conv2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Returns a convolution with stride 1 and zeros around the map.

  Linear in both arguments, with derivatives of any order and mode; only the
  transpose by the kernel has its own formulation, `kernel_gradient`.

  Args:
    x: [B, H, W, C] float.
    kernel: [k, k, C, O], dtype of `x`, k odd.

  Returns:
    [B, H, W, O], dtype of `x`.
  """
  return _same_conv(x, kernel)


def plain_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Returns `same_conv2d` by XLA's convolution, with XLA's derivatives."""
  padding = kernel.shape[0] // 2
  return jax.lax.conv_general_dilated(
    x,
    kernel,
    (1, 1),
    [(padding, padding)] * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def kernel_gradient(
  x: jax.Array, gradient: jax.Array, *, size: int
) -> jax.Array:
  """Returns the gradient of `same_conv2d` with respect to its kernel.

  The gradient of tap (i, j) is the sum over pixels of x[r + i, s + j] and
  gradient[r, s]. With x shifted k ways along its rows and the gradient k ways
  along its columns, one product of [k C, pixels] and [pixels, k O] is all k^2
  taps.

  Args:
    x: [B, H, W, C] float.
    gradient: Gradient of the result. [B, H, W, O] float.
    size: k, odd.

  Returns:
    [k, k, C, O] float32.
  """
  batch, height, width, channels = x.shape
  features = gradient.shape[-1]
  margin = size // 2
  rows = _block_rows(height, width)
  blocks = height // rows
  gradient = jnp.pad(gradient, ((0, 0), (margin, margin), (0, 0), (0, 0)))

  def add_block(i, total):
    start = (i // blocks, i % blocks * rows, 0, 0)
    block = jax.lax.dynamic_slice(x, start, (1, rows, width, channels))[0]
    block = jnp.pad(block, ((0, 0), (margin, margin), (0, 0)))
    by_output = jax.lax.dynamic_slice(
      gradient, start, (1, rows + 2 * margin, width, features)
    )[0]
    left = [block[:, j : j + width] for j in range(size)]
    right = [by_output[size - 1 - i :][:rows] for i in range(size)]
    left = jnp.concatenate(left, axis=-1).reshape(-1, size * channels)
    right = jnp.concatenate(right, axis=-1).reshape(-1, size * features)
    return total + jnp.matmul(left.T, right, preferred_element_type=jnp.float32)

  total = jax.lax.fori_loop(
    0,
    batch * blocks,
    add_block,
    jnp.zeros((size * channels, size * features), jnp.float32),
  )
  total = total.reshape(size, channels, size, features)
  return total.transpose(2, 0, 1, 3)


def _block_rows(height: int, width: int) -> int:
  """Returns the most rows that divide the height and fit a block."""
  divisors = [n for n in range(1, height + 1) if height % n == 0]
  return max(n for n in divisors if n == 1 or n * width <= BLOCK_PIXELS)


def _by_x(gradient, x, kernel):
  return jax.linear_transpose(lambda x: plain_conv(x, kernel), x)(gradient)[0]


def _by_kernel(gradient, x, kernel):
  by_kernel = kernel_gradient(x, gradient, size=kernel.shape[0])
  return by_kernel.astype(kernel.dtype)  # bfloat16 as it is


_same_conv = linear_primitive(plain_conv, (_by_x, _by_kernel))
