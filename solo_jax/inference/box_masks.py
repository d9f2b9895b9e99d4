"""Masks over their own boxes (`types.BoxMasks`) -> original image size.

A mask of s x s cells is stretched over its box and pasted directly into the
original image. Published code uses two rules, and weights need the one that
they were evaluated with:

  'aligned' (detectron2, mmdet): the box stays continuous. The centre of pixel j
    takes the mask at (j + 0.5 - left) / (right - left) * s - 0.5, bilinear and
    zero beyond the cells, so a mask fades over half a cell at the edge of its
    box. A pixel belongs to it at the threshold or above.
  'torchvision': the mask gets a border of one empty cell and the box grows with
    it; the corners of that box are truncated to whole pixels, and the mask is
    resized to them. A pixel belongs to it above the threshold.

torchvision/models/detection/roi_heads.py, detectron2/layers/mask_ops.py,
mmdet/models/roi_heads/mask_heads/fcn_mask_head.py. Either gives each pixel of
an axis one position on the cells, hence two weights, so the cost is
proportional to the area of the boxes, as it is to that of the masks in `masks`.
"""

from collections.abc import Callable, Sequence

import numpy as np

from solo_jax import types
from solo_jax.inference.masks import AxisWeights, collect, draw_mask


def masks_to_original(
  masks: types.BoxMasks,
  *,
  image_size: tuple[int, int],
  original_size: tuple[int, int],
  threshold: float,
) -> tuple[np.ndarray | types.CroppedMasks, np.ndarray]:
  """Returns the masks of one image at its original size.

  Args:
    masks: Masks of one image. [M, s, s] and [M, 4] float32.
    image_size: Valid (height, width) of the network input.
    original_size: (H0, W0) of the image before it was resized.
    threshold: A pixel belongs to a mask at or above this probability
      ('aligned'), or above it ('torchvision').

  Returns:
    See `masks.collect`.
  """
  find_positions, compare = RULES[masks.paste]
  num_masks, *num_cells = masks.probs.shape
  boxes = boxes_to_original(masks.boxes_xyxy, image_size, original_size)

  def draw(i, plane):
    (top, rows), (left, columns) = (
      _place(*find_positions(boxes[i, axis::2], n, length), n)
      for axis, n, length in zip((1, 0), num_cells, original_size, strict=True)
    )
    right, bottom = left + len(columns.first), top + len(rows.first)
    box = draw_mask(
      plane[left:right, top:bottom],
      masks.probs[i],
      rows,
      columns,
      compare,
      threshold,
    )
    return np.add(box, (left, top, left, top)) if box[2] else box

  return collect(draw, num_masks, original_size)


def boxes_to_original(
  boxes_xyxy: np.ndarray,
  image_size: Sequence[int],
  original_size: Sequence[int],
) -> np.ndarray:
  """Returns boxes of the network frame in pixels of the original image.

  Args:
    boxes_xyxy: Continuous network coordinates. [M, 4] float32.
    image_size: Valid (height, width) of the network input.
    original_size: (H0, W0).

  Returns:
    Continuous original pixels. [M, 4] float32.
  """
  factor = np.divide(original_size, image_size)[[1, 0, 1, 0]]
  return boxes_xyxy * factor.astype(np.float32)


def aligned_positions(
  ends: np.ndarray, num_cells: int, length: int
) -> tuple[int, np.ndarray]:
  """Returns the pixels of an axis that a mask reaches by the rule 'aligned'.

  Args:
    ends: Ends of the box along the axis. [2] float32.
    num_cells: Cells of the mask.
    length: Pixels of the image.

  Returns:
    start: The first pixel.
    positions: Positions of it and of those after it, in cells. [pixels]
    float64.
  """
  low, high = ends.astype(np.float64)
  if not high > low:
    return 0, np.zeros(0)
  reach = (high - low) / (2 * num_cells)  # half a cell
  pixels = np.ceil(low - reach - 0.5), np.floor(high + reach - 0.5) + 1
  start, stop = np.clip(pixels, 0, length).astype(int)
  centers = np.arange(start, stop) + 0.5 - low
  return start, centers * (num_cells / (high - low)) - 0.5


def torchvision_positions(
  ends: np.ndarray, num_cells: int, length: int
) -> tuple[int, np.ndarray]:
  """Returns the pixels of an axis by the rule 'torchvision'."""
  low, high = ends  # in float32, which decides the truncation
  middle = (high + low) * np.float32(0.5)
  half = (high - low) * np.float32(0.5) * np.float32(1 + 2 / num_cells)
  low, high = int(middle - half), int(middle + half)
  side = max(high - low + 1, 1)
  start, stop = np.clip((low, low + side), 0, length)
  centers = np.arange(start, stop) - low + 0.5
  positions = centers * ((num_cells + 2) / side) - 0.5
  # Clipped on the mask with its border, the first cell of which is empty.
  return start, np.clip(positions, 0, num_cells + 1) - 1


# Name of a rule -> (its positions, whether a pixel belongs to the mask).
RULES: dict[str, tuple[Callable, np.ufunc]] = {
  "aligned": (aligned_positions, np.greater_equal),
  "torchvision": (torchvision_positions, np.greater),
}


def _place(
  start: int, positions: np.ndarray, num_cells: int
) -> tuple[int, AxisWeights]:
  """Returns the first pixel and the weights, zero beyond the cells."""
  low = np.floor(positions).astype(np.int64)
  first = np.clip(low, 0, num_cells - 1)
  taps = np.zeros((len(positions), 2), np.float32)
  for cell, weight in ((low, low + 1 - positions), (low + 1, positions - low)):
    inside = np.flatnonzero((cell >= 0) & (cell < num_cells))
    taps[inside, cell[inside] - first[inside]] = weight[inside]
  axis = AxisWeights(
    taps=taps,
    num_cells=num_cells,
    first=first,
    last=np.clip(low + 1, 0, num_cells - 1),
  )
  return int(start), axis
