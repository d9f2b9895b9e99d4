"""Masks over the network frame (`types.FrameMasks`) -> original image size.

The published order (SOLOv2, https://arxiv.org/abs/2003.10152) is: bilinear
to the padded network input, crop to the valid image, bilinear to the original
size, threshold. Both resizes are linear and separable, so together they are
one small banded matrix per axis: rows @ probs @ columns.T. Every pixel is a
convex combination of at most three cells per axis, hence only pixels that
depend on a cell above the threshold can exceed it: the cost is proportional to
the area of the masks, not of the image.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np

from solo_jax import types

# Output pixels multiplied at once. A band of BLOCK pixels depends on about
# BLOCK / mask_stride cells: wide enough for BLAS, narrow enough to skip zeros.
BLOCK = 64


# Weights of one axis that are kept as a whole matrix; of a longer axis, such as
# that of an image of 1 x 1,000,000 pixels, each band is made when it is used.
MAX_MATRIX = 2**24
# Bytes of the planes of an image's masks; beyond, each is kept inside its box.
MAX_PLANES = 2**28


@dataclasses.dataclass(frozen=True, kw_only=True)
class AxisWeights:
  """How the pixels of one axis of the original image depend on mask cells.

  Attributes:
    taps: Weights of the cells `first`, `first` + 1, ... of each pixel, zero
      beyond `last`. They sum to 1, or to less where a mask ends at the edge of
      a box. [pixels, few] float32.
    num_cells: Cells of the axis.
    first: First cell a pixel depends on, never decreasing. [pixels] int.
    last: Last cell a pixel depends on, never decreasing. [pixels] int.
  """

  taps: np.ndarray
  num_cells: int
  first: np.ndarray
  last: np.ndarray

  @functools.cached_property
  def weights(self) -> np.ndarray:
    """Returns all weights of pixels on cells. [pixels, cells] float32."""
    return _spread(self.taps, self.first, self.num_cells)

  def band(self, start: int, stop: int) -> np.ndarray:
    """Returns the weights of some pixels on the cells that they read.

    Args:
      start: First pixel.
      stop: One past the last pixel.

    Returns:
      [stop - start, cells from `first` of the first to `last` of the last].
    """
    low, high = self.first[start], self.last[stop - 1] + 1
    if len(self.first) * self.num_cells <= MAX_MATRIX:
      return self.weights[start:stop, low:high]
    taps, first = self.taps[start:stop], self.first[start:stop]
    return _spread(taps, first - low, high - low)


def _spread(taps: np.ndarray, first: np.ndarray, num_cells: int) -> np.ndarray:
  """Returns rows of taps as rows of a matrix, each from its first cell on."""
  num_pixels, num_taps = taps.shape
  matrix = np.zeros((num_pixels, num_cells + num_taps), np.float32)
  cells = first[:, np.newaxis] + np.arange(num_taps)
  np.put_along_axis(matrix, cells, taps, axis=1)
  return np.ascontiguousarray(matrix[:, :num_cells])


def axis_weights(
  num_cells: int, *, mask_stride: int, image_length: int, original_length: int
) -> AxisWeights:
  """Returns the weights of both resizes of one axis, combined.

  Args:
    num_cells: Cells of the padded mask feature.
    mask_stride: Network pixels per cell.
    image_length: Valid network pixels; the rest of the axis is padding.
    original_length: Pixels of the original image.

  Returns:
    Weights of the original pixels on the cells.

  Raises:
    ValueError: If the valid image is empty or exceeds the padded input.
  """
  if not 0 < image_length <= num_cells * mask_stride:
    raise ValueError(
      f"image_size {image_length} must lie within 1 and the padded size "
      f"{num_cells * mask_stride} ({num_cells} cells of stride {mask_stride})"
    )
  cell_low, cell_high, cell_high_weight = _bilinear_taps(
    num_cells, num_cells * mask_stride
  )
  low, high, high_weight = _bilinear_taps(image_length, original_length)
  first, last = cell_low[low], cell_high[high]
  pixels = np.arange(original_length)
  taps = np.zeros((original_length, int((last - first).max()) + 1))
  for network_pixel, weight in ((low, 1 - high_weight), (high, high_weight)):
    cell_weight = cell_high_weight[network_pixel]
    # Separate statements: both cells of a pixel may be the same one.
    taps[pixels, cell_low[network_pixel] - first] += weight * (1 - cell_weight)
    taps[pixels, cell_high[network_pixel] - first] += weight * cell_weight
  return AxisWeights(
    taps=taps.astype(np.float32), num_cells=num_cells, first=first, last=last
  )


def direct_axis_weights(
  num_cells: int,
  *,
  padded_length: int,
  image_length: int,
  original_length: int,
) -> AxisWeights:
  """Returns the weights of one resize from cells to the original pixels.

  Args:
    num_cells: Cells of the padded mask feature.
    padded_length: Network pixels that they cover, any number.
    image_length: Valid network pixels; the rest of the axis is padding.
    original_length: Pixels of the original image.

  Returns:
    Weights of the original pixels on the cells.
  """
  low, high, high_weight = _bilinear_taps(
    num_cells,
    original_length,
    image_length * num_cells / (original_length * padded_length),
  )
  # At the end both cells are the last one, and the second has no weight.
  taps = np.stack([1 - high_weight, high_weight], axis=1)
  return AxisWeights(
    taps=taps.astype(np.float32), num_cells=num_cells, first=low, last=high
  )


def masks_to_original(
  mask_probs: np.ndarray,
  *,
  mask_stride: int,
  image_size: tuple[int, int],
  original_size: tuple[int, int],
  threshold: float,
) -> tuple[np.ndarray | types.CroppedMasks, np.ndarray]:
  """Returns masks resized to the original image and thresholded.

  Args:
    mask_probs: Probabilities over the padded input. [M, h, w] float32.
    mask_stride: Network pixels per mask cell.
    image_size: Valid (height, width) of the network input.
    original_size: (H0, W0) of the image before it was resized.
    threshold: A pixel belongs to the mask strictly above it.

  Returns:
    See `draw_masks`.

  Raises:
    ValueError: If the valid image is empty or exceeds the padded input.
  """
  _, num_rows, num_columns = mask_probs.shape
  rows = axis_weights(
    num_rows,
    mask_stride=mask_stride,
    image_length=image_size[0],
    original_length=original_size[0],
  )
  columns = axis_weights(
    num_columns,
    mask_stride=mask_stride,
    image_length=image_size[1],
    original_length=original_size[1],
  )
  return draw_masks(mask_probs, rows, columns, threshold)


def draw_masks(
  mask_probs: np.ndarray,
  rows: AxisWeights,
  columns: AxisWeights,
  threshold: float,
) -> tuple[np.ndarray | types.CroppedMasks, np.ndarray]:
  """Returns masks resized by the weights of their axes and thresholded.

  Args:
    mask_probs: [M, h, w] float32.
    rows: Weights of the original rows on those of a mask.
    columns: The same for columns.
    threshold: A pixel belongs to the mask strictly above it.

  Returns:
    As `collect`.
  """

  def draw(i, plane):
    return draw_mask(plane, mask_probs[i], rows, columns, np.greater, threshold)

  return collect(draw, len(mask_probs), (len(rows.first), len(columns.first)))


def collect(
  draw: Callable[[int, np.ndarray], tuple[int, int, int, int]],
  num_masks: int,
  size: tuple[int, int],
) -> tuple[np.ndarray | types.CroppedMasks, np.ndarray]:
  """Returns masks that are drawn one by one.

  Args:
    draw: Draws a mask, given its number, into a plane [W0, H0] bool that is all
      False, and returns its tight box.
    num_masks: M.
    size: (H0, W0).

  Returns:
    masks: [M, H0, W0] bool, a transposed view of C-contiguous [M, W0, H0]
      planes, which run-length encoding reads without a copy; CroppedMasks of
      that shape where the planes would take more than MAX_PLANES.
    boxes_xyxy: Tight boxes in continuous original pixels, zeros for an empty
      mask. [M, 4] float32.
  """
  height, width = size
  boxes_xyxy = np.zeros((num_masks, 4), np.float32)
  if num_masks * height * width <= MAX_PLANES:
    planes = np.zeros((num_masks, width, height), bool)
    for i, plane in enumerate(planes):
      boxes_xyxy[i] = draw(i, plane)
    return planes.transpose(0, 2, 1), boxes_xyxy
  plane, corners, crops = np.zeros((width, height), bool), [], []
  for i in range(num_masks):
    left, top, right, bottom = boxes_xyxy[i] = draw(i, plane)
    inside = plane[left:right, top:bottom]
    corners.append((top, left))
    crops.append(inside.copy().T)
    inside[:] = False  # nothing is outside
  return types.CroppedMasks(size=size, corners=corners, crops=crops), boxes_xyxy


def draw_mask(
  plane: np.ndarray,
  probs: np.ndarray,
  rows: AxisWeights,
  columns: AxisWeights,
  compare: np.ufunc,
  threshold: float,
) -> tuple[int, int, int, int]:
  """Returns one mask, drawn only where it can exceed the threshold.

  Args:
    plane: All False; the mask is written into it. [W, H] bool, column-major.
    probs: [h, w] float32.
    rows: Weights of the plane's rows on those of `probs`, not negative; the sum
      of a row is at most 1.
    columns: The same for columns.
    compare: (value, threshold) -> whether a pixel belongs to the mask:
      np.greater or np.greater_equal.
    threshold: Above 0.

  Returns:
    Tight box (left, top, right, bottom) of the mask in the plane, zeros for an
    empty mask.
  """
  above = compare(probs, threshold)
  y = _affected_pixels(rows, above.any(1))
  x = _affected_pixels(columns, above.any(0))
  if y.start == y.stop or x.start == x.stop:
    return 0, 0, 0, 0
  cells = slice(columns.first[x.start], columns.last[x.stop - 1] + 1)
  resized = np.empty((y.stop - y.start, cells.stop - cells.start), np.float32)
  for block, product in _bands(rows, y, probs[:, cells], 0):
    resized[block] = product
  inside = plane[x, y]
  for block, product in _bands(columns, x, resized.T, cells.start):
    compare(product, threshold, out=inside[block])
  return _tight_box(inside, x.start, y.start)


def _bilinear_taps(
  num_in: int, num_out: int, ratio: float | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns bilinear taps with align_corners=False and no antialiasing."""
  ratio = num_in / num_out if ratio is None else ratio
  position = (np.arange(num_out) + 0.5) * ratio - 0.5
  position = np.clip(position, 0, num_in - 1)
  low = np.floor(position).astype(np.int64)
  return low, np.minimum(low + 1, num_in - 1), position - low


def picture_to_original(
  picture: np.ndarray,
  *,
  mask_stride: int,
  image_size: tuple[int, int],
  original_size: tuple[int, int],
) -> np.ndarray:
  """Returns a picture of mask resolution at the original image's size.

  Args:
    picture: [h, w, 3] float32 in [0, 1].
    mask_stride: Network pixels per mask cell.
    image_size: Valid (height, width) of the network input.
    original_size: (H0, W0) of the image before it was resized.

  Returns:
    [H0, W0, 3] uint8.
  """
  for cells, image_length, original_length in zip(
    picture.shape[:2], image_size, original_size, strict=True
  ):
    axis = axis_weights(
      cells,
      mask_stride=mask_stride,
      image_length=image_length,
      original_length=original_length,
    )
    _, other, channels = picture.shape
    resized = np.empty((original_length, other * channels), np.float32)
    every = slice(0, original_length)
    for block, product in _bands(axis, every, picture.reshape(cells, -1), 0):
      resized[block] = product
    # Swaps the axes; after both passes they are in their original order.
    picture = resized.reshape(-1, other, channels).swapaxes(0, 1)
  return np.uint8(np.clip(255 * picture + 0.5, 0, 255))


def _affected_pixels(axis: AxisWeights, above: np.ndarray) -> slice:
  """Returns the pixels that read cells from the first to the last True one."""
  cells = np.flatnonzero(above)
  if not len(cells):
    return slice(0, 0)
  start = np.searchsorted(axis.last, cells[0], "left")
  stop = np.searchsorted(axis.first, cells[-1], "right")
  return slice(int(start), int(stop))


def _bands(
  axis: AxisWeights, pixels: slice, values: np.ndarray, first_cell: int
) -> Iterator[tuple[slice, np.ndarray]]:
  """Yields weights[pixels] @ values, band by band, each with its position."""
  for start in range(pixels.start, pixels.stop, BLOCK):
    stop = min(start + BLOCK, pixels.stop)
    low, high = axis.first[start], axis.last[stop - 1] + 1
    block = slice(start - pixels.start, stop - pixels.start)
    yield (
      block,
      axis.band(start, stop) @ values[low - first_cell : high - first_cell],
    )


def _tight_box(
  inside: np.ndarray, left: int, top: int
) -> tuple[int, int, int, int]:
  """Returns the box of a column-major [x, y] mask that is at (left, top)."""
  x = np.flatnonzero(inside.any(1))
  y = np.flatnonzero(inside.any(0))
  if not len(x):
    return 0, 0, 0, 0
  return left + x[0], top + y[0], left + x[-1] + 1, top + y[-1] + 1
