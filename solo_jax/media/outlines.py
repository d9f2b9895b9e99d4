"""Outlines of masks, for pictures that a browser draws."""

from collections.abc import Sequence

import cv2
import numpy as np

from solo_jax import visualization
from solo_jax.evaluation import rle
from solo_jax.evaluation.report_images import Outline
from solo_jax.visualization_labels import deepest_point

TOLERANCE = 1.0  # steps between an outline and the edge of its mask, at most


def trace(
  encoded: Sequence[dict], size: tuple[int, int], unit: int
) -> list[Outline]:
  """Returns the outlines of masks of one image.

  Args:
    encoded: COCO RLE.
    size: (height, width) of the image.
    unit: Steps of the outline per pixel. With more than one, pixel edges are
      smoothed.

  Returns:
    An outline for each, holes included, in steps from the corner of the image.
    Its deepest point is in the part of the mask that stays visible when smaller
    masks are drawn over larger ones.
  """
  boxes = [
    np.s_[top:bottom, left:right]
    for left, top, right, bottom in rle.boxes([*encoded]).astype(int).tolist()
  ]
  crops = []
  for item, box in zip(encoded, boxes, strict=True):
    (mask,) = rle.decode([item], tuple(size))
    crops.append(np.ascontiguousarray(mask[box]))
  owner = np.zeros(size, np.int32)
  for i in np.argsort([-crop.sum() for crop in crops], kind="stable"):
    owner[boxes[i]][crops[i]] = i + 1
  return [
    _trace(crop, owner[box] == i + 1, (box[1].start, box[0].start), unit)
    for i, (crop, box) in enumerate(zip(crops, boxes, strict=True))
  ]


def _trace(
  mask: np.ndarray, is_seen: np.ndarray, corner: tuple[int, int], unit: int
) -> Outline:
  """Returns the outline of a mask cut out at `corner` (x, y)."""
  if not mask.size:
    return Outline(path="", box=(0, 0, 0, 0), deepest=(0, 0))
  height, width = mask.shape
  mask = np.pad(mask, 1)
  is_seen = np.pad(is_seen, 1) if is_seen.any() else mask
  deepest = deepest_point(is_seen, np.array([1, 1, width + 1, height + 1]))
  large = visualization.enlarge_masks(mask[None], unit)[0].astype(np.uint8)
  contours, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
  # Pixel 0 of the padded crop is the one left of the box.
  start = (np.array(corner) - 1) * unit
  path = "".join(
    _to_path(cv2.approxPolyDP(contour, TOLERANCE, True)[:, 0] + start)
    for contour in contours
  )
  left, top = corner
  return Outline(
    path=path,
    box=(left * unit, top * unit, width * unit, height * unit),
    deepest=tuple(
      int((x + 0.5) * unit + s) for x, s in zip(deepest, start, strict=True)
    ),
  )


def _to_path(points: np.ndarray) -> str:
  """Returns a closed line of whole numbers, each relative to the previous."""
  (x, y), *_ = points.tolist()
  steps = "".join(f"{dx} {dy} " for dx, dy in np.diff(points, axis=0).tolist())
  return f"M{x} {y}l{steps.strip()}z" if steps else f"M{x} {y}z"
