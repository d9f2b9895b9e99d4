"""Bilinear and nearest resizing, value for value as PyTorch does it."""

import jax
import jax.numpy as jnp
import numpy as np


def interpolation_matrix(source: int, target: int) -> np.ndarray:
  """Builds the matrix of a 1-D bilinear resize without antialiasing.

  Sample positions are half-pixel centred, (i + 0.5) * source / target - 0.5,
  clamped at the borders, and computed in float32 step by step as in
  `torch.nn.functional.interpolate(mode='bilinear', align_corners=False)`: in
  float64 the weights would differ by up to 1e-5 for large sizes.

  Args:
    source: Number of samples before.
    target: Number of samples after.

  Returns:
    Weights, at most two nonzero per row, rows summing to one.
    [target, source] float32.
  """
  scale = np.float32(source) / np.float32(target)
  half = np.float32(0.5)
  position = scale * (np.arange(target, dtype=np.float32) + half) - half
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
  """Resizes like `F.interpolate(mode='bilinear', align_corners=False)`.

  Never antialiases, not even when shrinking. Arithmetic is float32.

  Args:
    x: Feature map. [B, H, W, C] float.
    size: Target (height, width).

  Returns:
    [B, size[0], size[1], C], dtype of `x`.
  """
  if x.shape[1:3] == tuple(size):
    return x
  y = x.astype(jnp.float32)
  # Two small contractions: no gather, so the gradient is no scatter either.
  if x.shape[1] != size[0]:
    rows = interpolation_matrix(x.shape[1], size[0])
    y = jnp.einsum("ih,bhwc->biwc", rows, y, precision="highest")
  if x.shape[2] != size[1]:
    columns = interpolation_matrix(x.shape[2], size[1])
    y = jnp.einsum("jw,biwc->bijc", columns, y, precision="highest")
  return y.astype(x.dtype)


def upsample_nearest_2x(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Doubles a feature map by repetition, cropped to an odd target.

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
