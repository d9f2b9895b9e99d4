"""Bilinear and nearest resizing, equal to PyTorch's value for value.

Other modules compute bilinear weights, too, because each must round like a
different reference: `inference.masks` (float64, on the host),
`inference.box_masks` (zero beyond the cells), `exporting.device_masks`
(fractions of integers, as sizes are arguments there) and
`exporting.device_resize` (OpenCV's fixed point).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.nn.linear_primitive import linear_primitive


def interpolation_matrix(source: int, target: int) -> np.ndarray:
  """Returns the matrix of a 1-D bilinear resize without antialiasing.

  Sample positions are half-pixel centred, (i + 0.5) * source / target - 0.5,
  clamped at the borders, and rounded as
  `torch.nn.functional.interpolate(mode='bilinear', align_corners=False)` does
  on CPU: the ratio to float32, then the whole fused multiply-add. Exact
  positions would give values that differ by up to 1e-4 at 300 pixels.

  Args:
    source: Number of samples before.
    target: Number of samples after.

  Returns:
    Weights, at most two nonzero per row, rows summing to one.
    [target, source] float32.
  """
  ratio = np.float64(np.float32(source) / np.float32(target))
  position = (ratio * (np.arange(target) + 0.5) - 0.5).astype(np.float32)
  position = np.maximum(position, np.float32(0))
  low = np.minimum(position.astype(np.int64), source - 1)
  high = np.minimum(low + 1, source - 1)
  fraction = np.minimum(position - low.astype(np.float32), np.float32(1))
  matrix = np.zeros((target, source), np.float32)
  rows = np.arange(target)
  np.add.at(matrix, (rows, low), np.float32(1) - fraction)
  np.add.at(matrix, (rows, high), fraction)
  return matrix


def resize_bilinear(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Returns what `F.interpolate(mode='bilinear', align_corners=False)` would.

  Never antialiases, not even when shrinking. Arithmetic is float32.

  Args:
    x: Feature map. [B, H, W, C] float.
    size: Target (height, width).

  Returns:
    [B, size[0], size[1], C], dtype of `x`.
  """
  if x.shape[1:3] == tuple(size):
    return x
  y = _resize(x.astype(jnp.float32), source=x.shape[1:3], target=tuple(size))
  return y.astype(x.dtype)


def apply_sparse(x: jax.Array, matrix: np.ndarray, axis: int) -> jax.Array:
  """Returns one axis multiplied by a matrix with few nonzeros per row.

  A sum of whole slices read at constant places, which XLA fuses into one
  loop; on CPU 8 times or more faster than a dense contraction.

  Args:
    x: [..., n, ...] float32 with n at `axis`.
    matrix: [m, n] float32.
    axis: Axis of `x` to contract.

  Returns:
    [..., m, ...] float32.
  """
  num_taps = np.count_nonzero(matrix, axis=1).max()
  taps = np.argsort(matrix == 0, axis=1, kind="stable")[:, :num_taps]
  shape = [1] * x.ndim
  shape[axis] = len(matrix)
  products = []
  for tap in taps.T:
    weight = matrix[np.arange(len(matrix)), tap].reshape(shape)
    products.append(jnp.take(x, tap, axis=axis, mode="clip") * weight)
  return functools.reduce(jnp.add, products)


def apply_dense(x: jax.Array, matrix: np.ndarray, axis: int) -> jax.Array:
  """Returns the same by a product of whole matrices, as exact in float32."""
  formula = {1: "ij,bjwc->biwc", 2: "ij,bhjc->bhic"}[axis]
  return jnp.einsum(formula, matrix, x, precision="highest")


def _apply(x: jax.Array, *by_axis: tuple[int, np.ndarray]) -> jax.Array:
  """Returns x, [B, H, W, C] float32, multiplied along one axis after another.

  TPUs are slow at reads of slices and fast at products: from 64 to 128 cells of
  256 channels they move 61 MB instead of 208, by the compiler's plan for v5e.
  """

  def with_each(x, apply):
    return functools.reduce(
      lambda x, pair: apply(x, pair[1], axis=pair[0]), by_axis, x
    )

  return jax.lax.platform_dependent(
    x,
    tpu=functools.partial(with_each, apply=apply_dense),
    default=functools.partial(with_each, apply=apply_sparse),
  )


def _resized(
  x: jax.Array, *, source: tuple[int, int], target: tuple[int, int]
) -> jax.Array:
  rows = interpolation_matrix(source[0], target[0])
  columns = interpolation_matrix(source[1], target[1])
  return _apply(x, (1, rows), (2, columns))


def _transposed(gradient, x, *, source, target):
  # The transposed matrices are as sparse: again reads at fixed places, where
  # automatic differentiation would scatter (5 to 15 times slower on CPU, and
  # in no fixed order on GPU).
  del x
  rows = interpolation_matrix(source[0], target[0]).T
  columns = interpolation_matrix(source[1], target[1]).T
  return _apply(gradient, (2, columns), (1, rows))


_resize = linear_primitive(_resized, (_transposed,))


def upsample_nearest_2x(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Returns a map doubled by repetition, cropped to an odd target.

  Equals `F.interpolate(mode='nearest', size=size)` for these sizes.

  Args:
    x: Feature map. [B, H, W, C].
    size: Target (height, width), each 2n or 2n - 1 for n input samples.

  Returns:
    [B, size[0], size[1], C], dtype of `x`.

  Raises:
    ValueError: If `size` is not twice the input, or one less.
  """
  batch, height, width, channels = x.shape
  if 2 * height - size[0] not in (0, 1) or 2 * width - size[1] not in (0, 1):
    raise ValueError(
      f"Expected a target of twice {(height, width)}, or one less; got "
      f"{tuple(size)}. Pad the network input to a multiple of 32."
    )
  shape = (batch, height, 2, width, 2, channels)
  y = jnp.broadcast_to(x[:, :, None, :, None], shape)
  y = y.reshape(batch, 2 * height, 2 * width, channels)
  return y[:, : size[0], : size[1]]
