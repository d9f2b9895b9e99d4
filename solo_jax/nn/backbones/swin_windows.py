"""Tables of Swin's windows: which pixels attend to each other, and how far.

Shape letters: H, W size of the map, w side of a window, n pixels of a window.
"""

import jax
import jax.numpy as jnp
import numpy as np

BLOCKED = -100.0  # added to a score, as published; not infinity


def relative_position_index(window_size: int) -> np.ndarray:
  """Returns numbers of pixel pairs, equal for equal relative positions.

  Args:
    window_size: w.

  Returns:
    Row of the table of biases for (query, key), both row by row.
    [w^2, w^2] int64.
  """
  y, x = np.divmod(np.arange(window_size**2), window_size)
  rows, columns = (a[:, None] - a[None] + window_size - 1 for a in (y, x))
  return rows * (2 * window_size - 1) + columns


def window_regions(length: int, window_size: int, shift: int) -> np.ndarray:
  """Returns which part of an axis each pixel belongs to after the shift.

  Rolling brings the two ends of the axis into one window; pixels of different
  parts do not attend to each other.

  Args:
    length: Length of the axis, a multiple of `window_size`.
    window_size: w.
    shift: Pixels by which the axis was rolled.

  Returns:
    0, 1 or 2. [length / w, w] int64.
  """
  regions = np.zeros(length, np.int64)
  if shift:
    regions[-window_size:] = 1
    regions[-shift:] = 2
  return regions.reshape(-1, window_size)


def shift_mask(
  height: int, width: int, window_size: int, shift: int
) -> jax.Array:
  """Returns the term added to the attention scores of a shifted map.

  Args:
    height: Rows, a multiple of `window_size`.
    width: Columns, likewise.
    window_size: w.
    shift: Pixels by which both axes were rolled.

  Returns:
    0, or BLOCKED for a pair of different parts, windows row by row.
    [windows, w^2, w^2] float32.
  """
  rows = window_regions(height, window_size, shift)
  columns = window_regions(width, window_size, shift)
  part = 3 * rows[:, None, :, None] + columns[None, :, None, :]
  part = jnp.asarray(part.reshape(-1, window_size**2))
  return jnp.where(part[:, :, None] != part[:, None, :], BLOCKED, 0.0)
