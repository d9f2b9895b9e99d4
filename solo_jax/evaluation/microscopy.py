"""Metrics of label images, where each pixel belongs to one object at most.

Detections above a score are flattened as `predict` does for its label images
(`label_images.flatten`): where they overlap, the higher score keeps the pixel.
Classes do not matter.

  dsb_AP: per image, the mean over IoU 0.50:0.05:0.95 of TP / (TP + FP + FN),
    then the mean over images: the 2018 Data Science Bowl (Caicedo et al. 2019,
    https://doi.org/10.1038/s41592-019-0612-7). A hit needs IoU > t.
  dsb_AP50: the same at IoU 0.50 only.
  SBD: symmetric best Dice, the mean over images of the smaller of the two best
    Dice: of each true object with its best detection, and the other way round.
  abs_DiC: |DiC|, the mean over images of the absolute difference in count. The
    last two are from the leaf segmentation challenge (Scharr et al. 2016,
    https://doi.org/10.1007/s00138-015-0737-3).

An image with neither objects nor detections counts as perfect.
"""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from solo_jax.evaluation.comparison import Truth
from solo_jax.evaluation.label_images import flatten

THRESHOLDS = np.arange(50, 100, 5) / 100


@dataclasses.dataclass(frozen=True)
class Overlaps:
  """Overlaps of the objects and the flattened detections of one image.

  Attributes:
    scores: Scores of the detections that keep a pixel, decreasing. [M].
    intersections: Common pixels. [N, M] int64.
    truth_areas: Pixels of each object. [N] int64.
    found_areas: Pixels that each detection keeps. [M] int64.
  """

  scores: np.ndarray
  intersections: np.ndarray
  truth_areas: np.ndarray
  found_areas: np.ndarray

  def above(self, score: float) -> "Overlaps":
    """Returns the overlaps of detections of at least a score.

    Lower scores never take a pixel from higher ones, so no recomputation is
    needed.
    """
    kept = slice(int(np.sum(self.scores >= score)))
    return Overlaps(
      self.scores[kept],
      self.intersections[:, kept],
      self.truth_areas,
      self.found_areas[kept],
    )


def evaluate(
  images: Sequence[Overlaps], score_threshold: float
) -> dict[str, float]:
  """Returns the metrics that the module docstring lists.

  Args:
    images: Overlaps of each image, as `overlaps` returns them; at least one.
    score_threshold: Detections of a lower score are left out.

  Returns:
    The metrics by name. All but abs_DiC are in [0, 1].
  """
  images = [image.above(score_threshold) for image in images]
  of_images = np.array([precisions(image) for image in images])
  counts = [np.subtract(*image.intersections.shape) for image in images]
  return {
    "dsb_AP": float(of_images.mean()),
    "dsb_AP50": float(of_images[:, 0].mean()),
    "SBD": float(np.mean([symmetric_best_dice(image) for image in images])),
    "abs_DiC": float(np.mean(np.abs(counts))),
  }


def overlaps(dataset: dict, results: Sequence[dict]) -> list[Overlaps]:
  """Returns the overlaps of each image's flattened detections with the truth.

  Args:
    dataset: Ground truth in COCO format; crowds are left out.
    results: COCO results.

  Returns:
    One entry per image, in their order.
  """
  truth, found = collections.defaultdict(list), collections.defaultdict(list)
  for annotation in Truth(dataset).annotations:
    if not annotation["iscrowd"]:
      truth[annotation["image_id"]].append(annotation["segmentation"])
  for result in sorted(results, key=lambda result: -result["score"]):
    found[result["image_id"]].append(result)
  return [
    _overlaps_of_image(
      truth[image["id"]],
      found[image["id"]],
      (image["height"], image["width"]),
    )
    for image in dataset["images"]
  ]


def _overlaps_of_image(
  truth: Sequence[dict], found: Sequence[dict], size: tuple[int, int]
) -> Overlaps:
  """Returns the overlaps of one image's RLEs, results sorted by score."""
  crops = (_crop(result["segmentation"]) for result in found)
  owner = flatten(crops, size)
  num_bins = len(found) + 1
  areas = np.bincount(owner.ravel(), minlength=num_bins)[1:]
  intersections = np.zeros((len(truth), num_bins), np.int64)
  truth_areas = np.zeros(len(truth), np.int64)
  for row, encoded in enumerate(truth):
    rows, columns, mask = _crop(encoded)
    under = owner[rows, columns][mask]
    truth_areas[row] = under.size
    intersections[row] = np.bincount(under, minlength=num_bins)
  is_visible = areas > 0
  scores = np.array([result["score"] for result in found], np.float64)
  return Overlaps(
    scores[is_visible],
    intersections[:, 1:][:, is_visible],
    truth_areas,
    areas[is_visible],
  )


def _crop(encoded: dict) -> tuple[slice, slice, np.ndarray]:
  """Returns rows and columns of an RLE's box, and the decoded mask there."""
  left, top, width, height = (int(x) for x in coco_mask.toBbox(encoded))
  box = np.s_[top : top + height, left : left + width]
  return *box, coco_mask.decode(encoded)[box].view(bool)


def precisions(image: Overlaps) -> np.ndarray:
  """Returns TP / (TP + FP + FN) at each of THRESHOLDS.

  Args:
    image: Overlaps of one image.

  Returns:
    1 where there is nothing to find and nothing is found. [10] float64.
  """
  num_truth, num_found = image.intersections.shape
  if not num_truth + num_found:
    return np.ones(len(THRESHOLDS))
  unions = image.truth_areas[:, None] + image.found_areas - image.intersections
  ious = image.intersections / np.maximum(unions, 1)
  # Above 0.5 a pair is the only one of both: pixels have one owner. Should the
  # true objects overlap, as in COCO, the fewer of the two count.
  hits = [
    min((ious > t).any(0).sum(), (ious > t).any(1).sum()) for t in THRESHOLDS
  ]
  hits = np.array(hits)
  return hits / (num_truth + num_found - hits)


def symmetric_best_dice(image: Overlaps) -> float:
  """Returns the symmetric best Dice of one image.

  Args:
    image: Overlaps of one image.

  Returns:
    In [0, 1]; 1 without objects and detections, 0 without one of them.
  """
  num_truth, num_found = image.intersections.shape
  if not num_truth or not num_found:
    return float(num_truth == num_found)
  sums = image.truth_areas[:, None] + image.found_areas
  dice = 2 * image.intersections / np.maximum(sums, 1)
  return float(min(dice.max(0).mean(), dice.max(1).mean()))
