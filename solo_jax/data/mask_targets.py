"""Mask targets of one instance: what is visible of it, and its mask cells.

The original mask is read through the affine of the sample directly, in the
tight box of what is visible, never resized as a whole. Resizing masks first
and cropping or flipping them afterwards shifts them by up to 3 pixels.
"""

import dataclasses
import math

import cv2
import numpy as np

from solo_jax.data.transforms import Axis

MASK_RULES = ("published", "center", "coverage")
# Positions on whole pixels come out of float64 products of sizes up to 1e5.
_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Visible:
  """The part of an instance inside the frame.

  Attributes:
    mask: Tight cut of the original mask, transposed to network axes. uint8.
    top: First row of `mask` on the original axis shown along y.
    left: First column of `mask` on the original axis shown along x.
    area: Visible area in network pixels.
    center: Centre of mass (x, y), pixel-index network coordinates.
    box_xyxy: Tight box, continuous network coordinates.
  """

  mask: np.ndarray
  top: int
  left: int
  area: float
  center: tuple[float, float]
  box_xyxy: tuple[float, float, float, float]


def find_visible(mask: np.ndarray, y: Axis, x: Axis) -> Visible | None:
  """Cuts out the visible part of a mask, None if there is none."""
  rows, columns = _visible_pixels(y), _visible_pixels(x)
  row_counts, column_counts = _counts(mask[rows, columns])
  filled_rows = np.flatnonzero(row_counts)
  if not filled_rows.size:
    return None
  filled_columns = np.flatnonzero(column_counts)
  top, bottom = rows.start + filled_rows[0], rows.start + filled_rows[-1] + 1
  left = columns.start + filled_columns[0]
  right = columns.start + filled_columns[-1] + 1
  num_pixels = int(row_counts.sum())
  y_low, y_high = _span(y, top, bottom)
  x_low, x_high = _span(x, left, right)
  return Visible(
    mask=mask[top:bottom, left:right],
    top=int(top),
    left=int(left),
    area=num_pixels * abs(y.scale * x.scale),
    center=(
      _center(column_counts, num_pixels, columns.start, x),
      _center(row_counts, num_pixels, rows.start, y),
    ),
    box_xyxy=(x_low, y_low, x_high, y_high),
  )


def _visible_pixels(axis: Axis) -> slice:
  """Returns the original pixels that reach into the valid extent."""
  low, high = sorted(axis.to_original(np.array([0.0, axis.extent])))
  return slice(
    max(0, math.floor(low + _TOLERANCE)),
    min(axis.length, math.ceil(high - _TOLERANCE)),
  )


def _span(axis: Axis, start: int, stop: int) -> tuple[float, float]:
  """Returns the valid network interval of a range of original pixels."""
  ends = sorted(axis.scale * end + axis.offset for end in (start, stop))
  return max(ends[0], 0.0), min(ends[1], float(axis.extent))


def _counts(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Counts set pixels by row and by column, either memory order."""
  if not mask.size:
    return np.zeros(0, np.int32), np.zeros(0, np.int32)
  if mask.strides[0] < mask.strides[1]:
    return _counts(mask.T)[::-1]
  return tuple(
    cv2.reduce(mask, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
    for axis in (1, 0)
  )


def _center(
  counts: np.ndarray, num_pixels: int, start: int, axis: Axis
) -> float:
  mean = start + float(counts @ np.arange(len(counts))) / num_pixels
  # Index i has its middle at i + 0.5; written so that scale 1 is exact.
  center = axis.scale * mean + (axis.offset + 0.5 * axis.scale - 0.5)
  return min(max(center, 0.0), axis.extent - 1.0)


def fill_cells(
  visible: Visible, y: Axis, x: Axis, stride: int, mask_rule: str
) -> tuple[slice, slice, np.ndarray]:
  """Computes the mask cells that an instance can reach.

  Returns:
    Rows and columns of the mask target and the values there, bool or uint8.
  """
  x_low, y_low, x_high, y_high = visible.box_xyxy
  rows = _cell_range(y_low, y_high, stride)
  columns = _cell_range(x_low, x_high, stride)
  if mask_rule == "coverage":
    row_edges = y.to_original(_edges(rows, stride, y.extent)) - visible.top
    column_edges = x.to_original(_edges(columns, stride, x.extent))
    column_edges -= visible.left
    area = _area_between(visible.mask, row_edges, column_edges)
    area *= 255 * abs(y.scale * x.scale) / stride**2
    return rows, columns, np.rint(area).astype(np.uint8)
  lookup = _centers if mask_rule == "center" else _central_pixels
  row_indices = lookup(rows, stride, y) - visible.top
  column_indices = lookup(columns, stride, x) - visible.left
  bits = _lookup(visible.mask, row_indices, column_indices)
  if mask_rule == "published":
    bits = bits.reshape(len(row_indices) // 2, 2, -1, 2).sum((1, 3)) >= 2
  return rows, columns, bits


def _cell_range(low: float, high: float, stride: int) -> slice:
  return slice(
    math.floor(low / stride + _TOLERANCE),
    math.ceil(high / stride - _TOLERANCE),
  )


def _edges(cells: slice, stride: int, extent: int) -> np.ndarray:
  edges = np.arange(cells.start, cells.stop + 1) * stride
  return np.minimum(edges, extent)  # nothing is visible beyond the frame


def _centers(cells: slice, stride: int, axis: Axis) -> np.ndarray:
  """Finds the original pixel under each cell centre, -1 beyond the frame."""
  centers = (np.arange(cells.start, cells.stop) + 0.5) * stride
  pixels = np.floor(axis.to_original(centers)).astype(np.int64)
  return np.where(centers < axis.extent, pixels, -1)


def _central_pixels(cells: slice, stride: int, axis: Axis) -> np.ndarray:
  """Finds the original pixels of the two middle network pixels of each cell.

  cv2's nearest resize takes the original pixel at the start of a network
  pixel, in the frame before mirroring.
  """
  first = np.arange(cells.start, cells.stop) * stride + stride // 2 - 1
  pixels = np.stack([first, first + 1], axis=1).ravel()
  starts = pixels + 1 if axis.scale < 0 else pixels
  originals = np.floor(axis.to_original(starts) + _TOLERANCE).astype(np.int64)
  return np.where(pixels < axis.extent, originals, -1)


def _lookup(
  mask: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
  """Reads the mask at rows x columns, 0 where an index lies outside."""
  is_row = (rows >= 0) & (rows < mask.shape[0])
  is_column = (columns >= 0) & (columns < mask.shape[1])
  bits = mask[
    np.where(is_row, rows, 0)[:, None], np.where(is_column, columns, 0)
  ]
  bits[~is_row] = 0
  bits[:, ~is_column] = 0
  return bits


def _area_between(
  mask: np.ndarray, row_edges: np.ndarray, column_edges: np.ndarray
) -> np.ndarray:
  """Sums a mask exactly over a grid of boxes with fractional edges.

  The sum over [0, r) x [0, c) is bilinear between whole pixels, so four
  reads of the summed-area table give the area of a box.

  Args:
    mask: [R, C] uint8, 0 or 1.
    row_edges: Monotonous, clipped to [0, R]. [rows + 1].
    column_edges: Monotonous, clipped to [0, C]. [columns + 1].

  Returns:
    Area within each box, mask pixels. [rows, columns] float64.
  """
  if mask.strides[0] < mask.strides[1]:
    table = cv2.integral(mask.T).T
  else:
    table = cv2.integral(mask)
  table = np.diff(_interpolated(table, row_edges), axis=0)
  table = np.diff(_interpolated(table.T, column_edges), axis=0).T
  return np.abs(table)  # mirrored edges fall instead of rising


def _interpolated(table: np.ndarray, positions: np.ndarray) -> np.ndarray:
  """Interpolates linearly along the first axis."""
  positions = np.clip(positions, 0, len(table) - 1)
  lower = np.minimum(positions.astype(np.int64), len(table) - 2)
  fraction = (positions - lower)[:, None]
  start = table[lower]
  return start + fraction * (table[lower + 1] - start)
