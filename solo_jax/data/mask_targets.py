"""Mask targets of one instance: its visible part and its mask cells.

The original mask is read directly through the affine of the sample, in the
tight box of its visible part, and is never resized as a whole. Resizing masks
first and then cropping or flipping them would shift them by up to 3 pixels.
"""

import dataclasses
import math

import cv2
import numpy as np

from solo_jax.data.transforms import Axis

MASK_RULES = ("published", "majority", "coverage")
# Tolerance: whole-pixel positions are float64 products of sizes up to 1e5.
_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Visible:
  """The part of an instance inside the frame.

  Attributes:
    mask: Tight cut of the original mask, transposed to network axes. uint8.
    top: First row of `mask` on the original axis shown along y.
    left: First column of `mask` on the original axis shown along x.
    pixel_area: Area of an original pixel in network pixels.
    area: Visible area in network pixels.
    center: Centre of mass (x, y), pixel-index network coordinates.
    box_xyxy: Tight box, continuous network coordinates.
  """

  mask: np.ndarray
  top: int
  left: int
  pixel_area: float
  area: float
  center: tuple[float, float]
  box_xyxy: tuple[float, float, float, float]


def find_visible(
  mask: np.ndarray, y: Axis, x: Axis, corner: tuple[int, int] = (0, 0)
) -> Visible | None:
  """Returns the visible part of a mask, None if there is none.

  Args:
    mask: The mask or a part outside of which it is empty, uint8.
    y: Network y axis.
    x: Network x axis.
    corner: Where `mask` begins on the original axes shown along y and x.
  """
  rows, columns = (
    slice(max(axis.visible.start, start), min(axis.visible.stop, start + size))
    for axis, start, size in zip((y, x), corner, mask.shape, strict=True)
  )
  if rows.start >= rows.stop or columns.start >= columns.stop:
    return None
  mask = mask[
    rows.start - corner[0] : rows.stop - corner[0],
    columns.start - corner[1] : columns.stop - corner[1],
  ]
  row_counts, column_counts = _counts(mask)
  filled_rows = np.flatnonzero(row_counts)
  if not filled_rows.size:
    return None
  filled_columns = np.flatnonzero(column_counts)
  top, bottom = rows.start + filled_rows[0], rows.start + filled_rows[-1] + 1
  left = columns.start + filled_columns[0]
  right = columns.start + filled_columns[-1] + 1
  num_pixels = int(row_counts.sum())
  pixel_area = abs(y.scale * x.scale)
  y_low, y_high = _span(y, top, bottom)
  x_low, x_high = _span(x, left, right)
  return Visible(
    mask=mask[
      top - rows.start : bottom - rows.start,
      left - columns.start : right - columns.start,
    ],
    top=int(top),
    left=int(left),
    pixel_area=pixel_area,
    area=num_pixels * pixel_area,
    center=(
      _center(column_counts, num_pixels, columns.start, x),
      _center(row_counts, num_pixels, rows.start, y),
    ),
    box_xyxy=(x_low, y_low, x_high, y_high),
  )


def _span(axis: Axis, start: int, stop: int) -> tuple[float, float]:
  """Returns the valid network interval of a range of original pixels."""
  ends = axis.scale * start + axis.offset, axis.scale * stop + axis.offset
  return max(min(ends), 0.0), min(max(ends), float(axis.extent))


def _counts(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the number of set pixels by row and column, in any memory order."""
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
  # Index i has its centre at i + 0.5; written so that scale 1 is exact.
  center = axis.scale * mean + (axis.offset + 0.5 * axis.scale - 0.5)
  return min(max(center, 0.0), axis.extent - 1.0)


def locate_cells(
  axis: Axis, num_cells: int, stride: int, mask_rule: str
) -> np.ndarray:
  """Returns where the cells of one axis read the original mask.

  Args:
    axis: Network axis.
    num_cells: Mask cells along it.
    stride: Network pixels per cell.
    mask_rule: See `mask_frames.ImageFrame`.

  Returns:
    'published': original pixels shown by the two middle network pixels of each
    cell, -1 beyond the frame, [num_cells, 2] int64. Otherwise cell edges,
    continuous original coordinates, [num_cells + 1] float64.
  """
  if mask_rule != "published":
    edges = np.arange(num_cells + 1) * float(stride)
    # Nothing beyond the frame is visible.
    return axis.to_original(np.minimum(edges, axis.extent))
  starts = np.arange(num_cells)[:, None] * stride
  network = starts + np.array([stride // 2 - 1, stride // 2])
  # Pixels in the resized image, before it was mirrored and cropped; there
  # cv2's nearest resize shows the original pixel at the start of each, in
  # float64 with the inverse scale, which now and then is one less.
  resized = (network - axis.offset) * np.sign(axis.scale)
  resized -= axis.scale < 0
  original = np.rint(resized) * (1 / abs(axis.scale))
  return np.where(network < axis.extent, np.floor(original), -1).astype(
    np.int64
  )


def fill_cells(
  visible: Visible,
  y_cells: np.ndarray,
  x_cells: np.ndarray,
  stride: int,
  mask_rule: str,
) -> tuple[slice, slice, np.ndarray]:
  """Returns the mask cells that an instance can reach.

  Args:
    visible: The instance.
    y_cells: From `locate_cells` of the y axis.
    x_cells: From `locate_cells` of the x axis.
    stride: Network pixels per cell.
    mask_rule: See `mask_frames.ImageFrame`.

  Returns:
    Rows and columns of the mask target, and the values there: uint8 of 0 to
    255 for 'coverage', else bool.
  """
  x_low, y_low, x_high, y_high = visible.box_xyxy
  rows = _cell_range(y_low, y_high, stride)
  columns = _cell_range(x_low, x_high, stride)
  if mask_rule == "published":
    y_pixels = y_cells[rows] - visible.top
    x_pixels = x_cells[columns] - visible.left
    votes = _lookup(visible.mask, y_pixels.ravel(), x_pixels.ravel())
    votes = votes.reshape(*y_pixels.shape, *x_pixels.shape).sum((1, 3))
    return rows, columns, votes >= 2
  y_edges = y_cells[rows.start : rows.stop + 1] - visible.top
  x_edges = x_cells[columns.start : columns.stop + 1] - visible.left
  coverage = area_between(visible.mask, y_edges, x_edges)
  coverage *= visible.pixel_area / stride**2
  if mask_rule == "majority":
    return rows, columns, coverage >= 0.5 - _TOLERANCE
  return rows, columns, np.rint(255 * coverage).astype(np.uint8)


def _cell_range(low: float, high: float, stride: int) -> slice:
  return slice(
    math.floor(low / stride + _TOLERANCE),
    math.ceil(high / stride - _TOLERANCE),
  )


def _lookup(
  mask: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
  """Returns the mask at rows x columns, 0 where an index lies outside."""
  is_row = (rows >= 0) & (rows < mask.shape[0])
  is_column = (columns >= 0) & (columns < mask.shape[1])
  bits = mask[
    np.where(is_row, rows, 0)[:, None], np.where(is_column, columns, 0)
  ]
  bits[~is_row] = 0
  bits[:, ~is_column] = 0
  return bits


def area_between(
  mask: np.ndarray, row_edges: np.ndarray, column_edges: np.ndarray
) -> np.ndarray:
  """Returns exact sums of a mask over a grid of boxes with fractional edges.

  The sum over [0, r) x [0, c) is bilinear between whole pixels, so four
  reads of the summed-area table give the area of a box.

  Args:
    mask: [R, C] uint8, 0 or 1.
    row_edges: Monotonic, clipped to [0, R]. [rows + 1].
    column_edges: Monotonic, clipped to [0, C]. [columns + 1].

  Returns:
    Area within each box, mask pixels. [rows, columns] float64.
  """
  if mask.strides[0] < mask.strides[1]:
    return area_between(mask.T, column_edges, row_edges).T
  table = np.diff(_interpolated(cv2.integral(mask), row_edges), axis=0)
  # Copied in column order: reading along the first axis is much faster.
  table = np.ascontiguousarray(table.T)
  table = np.diff(_interpolated(table, column_edges), axis=0).T
  return np.abs(table)  # mirrored edges fall instead of rising


def _interpolated(table: np.ndarray, positions: np.ndarray) -> np.ndarray:
  """Returns values interpolated linearly along the first axis."""
  positions = np.clip(positions, 0, len(table) - 1)
  lower = np.minimum(positions.astype(np.int64), len(table) - 2)
  fraction = (positions - lower)[:, None]
  start = table[lower]
  return start + fraction * (table[lower + 1] - start)
