"""Outlines of masks, for pictures that a browser draws."""

import cv2
import numpy as np

from solo_jax import visualization
from solo_jax.evaluation import rle
from solo_jax.evaluation.report_images import Outline
from solo_jax.visualization_labels import deepest_point

TOLERANCE = 1.0  # steps by which an outline may leave the edge of its mask


def trace(encoded: dict, unit: int) -> Outline:
  """Returns the outlines of a mask.

  Args:
    encoded: COCO RLE.
    unit: Steps of the outline per pixel. With more than one the steps of the
      pixels are smoothed.

  Returns:
    Its outline, holes included, in steps from the corner of the image.
  """
  left, top, right, bottom = rle.boxes([encoded])[0].astype(int).tolist()
  if right <= left or bottom <= top:
    return Outline(path="", box=(0, 0, 0, 0), deepest=(0, 0))
  (mask,) = rle.decode([encoded], tuple(encoded["size"]))
  mask = np.pad(mask[top:bottom, left:right], 1)
  deepest = deepest_point(
    mask, np.array([1, 1, *np.array(mask.shape[::-1]) - 1])
  )
  large = visualization.enlarge_masks(mask[None], unit)[0].astype(np.uint8)
  contours, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
  # Pixel 0 of the crop is the one left of the box.
  corner = np.array([left - 1, top - 1]) * unit
  path = "".join(
    _to_path(cv2.approxPolyDP(contour, TOLERANCE, True)[:, 0] + corner)
    for contour in contours
  )
  return Outline(
    path=path,
    box=(
      left * unit,
      top * unit,
      (right - left) * unit,
      (bottom - top) * unit,
    ),
    deepest=tuple(
      int((x + 0.5) * unit + c) for x, c in zip(deepest, corner, strict=True)
    ),
  )


def _to_path(points: np.ndarray) -> str:
  """Writes a closed line of whole numbers, each relative to the one before."""
  (x, y), *_ = points.tolist()
  steps = "".join(f"{dx} {dy} " for dx, dy in np.diff(points, axis=0).tolist())
  return f"M{x} {y}l{steps.strip()}z" if steps else f"M{x} {y}z"
