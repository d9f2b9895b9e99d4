"""Boundary AP: mask AP by the overlap of the masks' edges.

Boundary IoU (Cheng et al. 2021, https://arxiv.org/abs/2103.16562) compares the
pixels of two masks that lie within a distance of their contours. Mask IoU
hardly notices a coarse contour of a large object; this measure does. As in the
paper, two masks overlap by the smaller of their boundary and mask IoU, and the
distance is 2 % of the image's diagonal.
"""

import math
from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from solo_jax.evaluation import coco_metrics
from solo_jax.evaluation.comparison import Comparison, Truth, mask_shapes

DISTANCE = 0.02  # of the diagonal of the image


def evaluate(
  dataset: dict, results: Sequence[dict], *, max_detections: int
) -> dict[str, float | None]:
  """Returns boundary AP.

  Args:
    dataset: Ground truth, as in `coco_metrics.compare`.
    results: COCO results, as in `coco_metrics.compare`.
    max_detections: See `coco_metrics.compare`.

  Returns:
    boundary_AP and, by size, boundary_AP_S, boundary_AP_M and boundary_AP_L,
    each in [0, 1] or None without ground truth to measure it on.
  """
  results = coco_metrics.drop_unjudged(dataset, results, max_detections)
  truth = Truth(dataset)
  shapes = mask_shapes(truth, results, overlaps=_overlaps)
  precision = Comparison(
    truth, results, shapes, max_detections=max_detections
  ).precision
  return {
    f"boundary_AP{suffix}": coco_metrics.mean(precision[..., area])
    for area, suffix in enumerate(("", "_S", "_M", "_L"))
  }


def _overlaps(
  found: list[dict], truth: list[dict], is_crowd: np.ndarray
) -> np.ndarray:
  """Returns the smaller of mask and boundary IoU. [D, N] float64."""
  of_masks = coco_mask.iou(found, truth, is_crowd)
  of_edges = coco_mask.iou(
    [encode_boundary(mask) for mask in found],
    [encode_boundary(mask) for mask in truth],
    is_crowd,
  )
  # The edge of a crowd region is meaningless.
  return np.where(is_crowd > 0, of_masks, np.minimum(of_masks, of_edges))


def encode_boundary(encoded: dict) -> dict:
  """Returns the encoded boundary of an encoded mask.

  Args:
    encoded: RLE {'size': [H, W], 'counts': str or bytes}.

  Returns:
    RLE of the same size.
  """
  height, width = encoded["size"]
  distance = max(1, round(DISTANCE * math.hypot(height, width)))
  left, top, *sides = (int(x) for x in coco_mask.toBbox(encoded))
  if min(sides) <= 2 * distance:
    return encoded  # all of it is near its contour
  box = np.s_[top : top + sides[1], left : left + sides[0]]
  mask = coco_mask.decode(encoded)
  mask[box] = boundary(mask[box], distance)
  return coco_mask.encode(mask)


def boundary(mask: np.ndarray, distance: int) -> np.ndarray:
  """Returns the pixels of a mask within a distance of its contour.

  Beyond the image there is no mask, so its edge is a contour too.

  Args:
    mask: [H, W] bool or 0 and 1.
    distance: Pixels, at least 1, in the maximum norm: the number of equivalent
      erosions by 3 x 3 pixels.

  Returns:
    [H, W] bool.
  """
  inner = _erode_rows(_erode_rows(mask, distance).T, distance).T
  return mask & ~inner


def _erode_rows(mask: np.ndarray, distance: int) -> np.ndarray:
  """Returns the pixels with only mask within a distance along the columns."""
  counts = np.pad(mask, ((distance + 1, distance), (0, 0)))
  counts = np.cumsum(counts, 0, dtype=np.int32)
  size = 2 * distance + 1
  return counts[size:] - counts[:-size] == size
