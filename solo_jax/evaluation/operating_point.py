"""Metrics at a score threshold: confusion, calibration, good and bad images."""

import dataclasses

import numpy as np

from solo_jax.evaluation import errors
from solo_jax.evaluation.comparison import Comparison, rows_of
from solo_jax.evaluation.errors import (
  CORRECT,
  HIT_IOU,
  IGNORED,
  Outcomes,
)

NUM_BINS = 10


def confusion_matrix(
  comparison: Comparison, outcomes: Outcomes, score_threshold: float
) -> np.ndarray:
  """Returns how often each class is detected as each other class.

  In each image, in order of decreasing score, each detection takes the free
  object with the highest mask IoU, whatever its class, if the IoU is at least
  0.5.

  Args:
    comparison: Finished comparison of masks.
    outcomes: Its outcomes.
    score_threshold: Detections of a lower score are left out.

  Returns:
    Objects of class i detected as class j; the last column has the objects
    that were not detected, the last row the detections without an object.
    [K + 1, K + 1] int64.
  """
  num_classes = len(comparison.truth.categories)
  matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
  kept = (outcomes.scores >= score_threshold) & (outcomes.kinds != IGNORED)
  for image_id in comparison.truth.images:
    here = rows_of(outcomes.image_ids, image_id)
    truth = rows_of(outcomes.object_image_ids, image_id)
    found = here.start + np.flatnonzero(kept[here])
    found = found[np.argsort(-outcomes.scores[found], kind="mergesort")]
    rows = match_any_class(
      comparison, outcomes.detection_ids[found], outcomes.object_ids[truth]
    )
    # Row -1 is "no object", after the last class.
    classes = np.append(outcomes.object_labels[truth], num_classes)
    np.add.at(matrix, (classes[rows], outcomes.labels[found]), 1)
    missed = np.setdiff1d(np.arange(truth.stop - truth.start), rows)
    np.add.at(matrix, (classes[missed], num_classes), 1)
  return matrix


def match_any_class(
  comparison: Comparison, detection_ids: np.ndarray, object_ids: np.ndarray
) -> np.ndarray:
  """Returns the matches of detections, in their order, with any objects.

  Args:
    comparison: The comparison of masks.
    detection_ids: Positions in the results. [D].
    object_ids: Positions in the annotations. [N].

  Returns:
    Row of the object of each detection, -1 without one. [D] int64.
  """
  rows = np.full(len(detection_ids), -1)
  if not len(detection_ids) or not len(object_ids):
    return rows
  overlaps = comparison.overlaps(detection_ids, object_ids)
  for i in range(len(rows)):
    best = overlaps[i].argmax()
    if overlaps[i, best] >= HIT_IOU:
      rows[i] = best
      overlaps[:, best] = -1
  return rows


@dataclasses.dataclass(frozen=True)
class Calibration:
  """How often a detection of some score is correct at IoU 0.5.

  Attributes:
    counts: Detections in each tenth of [0, 1] of the score. [10] int64.
    scores: Their mean score, NaN if there are none. [10] float64.
    precisions: The share of correct ones, NaN if there are none. [10] float64.
    error: Mean of |score - precision| over detections, the expected
      calibration error (Guo et al. 2017, https://arxiv.org/abs/1706.04599) of
      detections; None without any.
  """

  counts: np.ndarray
  scores: np.ndarray
  precisions: np.ndarray
  error: float | None


def calibrate(outcomes: Outcomes) -> Calibration:
  """Returns how often detections of each score are right.

  Args:
    outcomes: Outcomes of a split.

  Returns:
    The comparison, over the detections that are not ignored.
  """
  counted = outcomes.kinds != IGNORED
  scores = outcomes.scores[counted]
  is_hit = outcomes.kinds[counted] == CORRECT
  bins = np.clip((scores * NUM_BINS).astype(int), 0, NUM_BINS - 1)
  counts = np.bincount(bins, minlength=NUM_BINS)
  some = np.where(counts > 0, counts, np.nan)
  means = np.bincount(bins, scores, NUM_BINS) / some
  precisions = np.bincount(bins, is_hit, NUM_BINS) / some
  error = None
  if len(scores):
    gaps = np.abs(means - precisions)
    error = float(np.nansum(gaps * counts) / len(scores))
  return Calibration(counts, means, precisions, error)


def sweep(outcomes: Outcomes, thresholds: np.ndarray) -> dict[str, np.ndarray]:
  """Returns precision, recall and F1 of all classes together at IoU 0.5.

  Args:
    outcomes: Outcomes of a split.
    thresholds: Thresholds of the score, increasing. [S].

  Returns:
    precision, recall and f1 by name, [S] float64; NaN where nothing is
    detected, or nothing is to be found.
  """
  counted = outcomes.kinds != IGNORED
  scores = outcomes.scores[counted]
  is_hit = outcomes.kinds[counted] == CORRECT
  found = (scores >= thresholds[:, None]).sum(1)
  hits = (scores[is_hit] >= thresholds[:, None]).sum(1)
  num_truth = len(outcomes.object_ids)
  with np.errstate(invalid="ignore", divide="ignore"):
    return dict(
      precision=hits / found,
      recall=hits / np.float64(num_truth),
      f1=2 * hits / np.float64(found + num_truth),
    )


@dataclasses.dataclass(frozen=True)
class ImageQuality:
  """How well the objects of an image were found.

  Attributes:
    image_id: Its id.
    quality: Mean over IoU 0.50:0.05:0.95 of TP / (TP + FP + FN) at the score
      threshold; 1 for an empty image without detections.
    num_objects: Objects.
    num_found: Detections of at least the score threshold.
    num_mistakes: Wrong detections among these, at IoU 0.5.
    num_missed: Objects without a correct detection at IoU 0.5.
    confusion: Sum of the scores of the wrong detections.
  """

  image_id: int
  quality: float
  num_objects: int
  num_found: int
  num_mistakes: int
  num_missed: int
  confusion: float


def judge_images(
  image_ids: list[int], outcomes: Outcomes, score_threshold: float
) -> list[ImageQuality]:
  """Returns counts of each image at a score threshold.

  Args:
    image_ids: Image ids of the split.
    outcomes: Outcomes of the split.
    score_threshold: Detections of a lower score are left out.

  Returns:
    One entry per image.
  """
  kept = (outcomes.scores >= score_threshold) & (outcomes.kinds != IGNORED)
  judged = []
  for image_id in image_ids:
    here = rows_of(outcomes.image_ids, image_id)
    truth = rows_of(outcomes.object_image_ids, image_id)
    num_objects = int(truth.stop - truth.start)
    is_kept = kept[here]
    hits = outcomes.hits[:, here][:, is_kept].sum(1)
    num_found = int(is_kept.sum())
    total = num_objects + num_found - hits
    is_wrong = is_kept & (outcomes.kinds[here] != errors.CORRECT)
    judged.append(
      ImageQuality(
        image_id=image_id,
        quality=float((hits / total).mean()) if total[0] else 1.0,
        num_objects=num_objects,
        num_found=num_found,
        num_mistakes=int(is_wrong.sum()),
        num_missed=num_objects - int(hits[0]),
        confusion=float(outcomes.scores[here][is_wrong].sum()),
      )
    )
  return judged


def choose_images(
  judged: list[ImageQuality], number: int
) -> dict[str, list[ImageQuality]]:
  """Returns images that are worth looking at.

  Args:
    judged: Results of the split.
    number: Largest number of images of each kind.

  Returns:
    best: The highest quality, with most objects first where equal.
    worst: The lowest, with most missed and wrong first where equal.
    confusing: The largest sum of the scores of wrong detections: confident
    mistakes. Images without objects and detections are in none of them.
  """
  busy = [x for x in judged if x.num_objects + x.num_found]
  best = sorted(busy, key=lambda x: (-x.quality, -x.num_objects))
  worst = sorted(
    busy, key=lambda x: (x.quality, -x.num_missed - x.num_mistakes)
  )
  confusing = sorted(
    (x for x in busy if x.num_mistakes), key=lambda x: -x.confusion
  )
  chosen = dict(best=best, worst=worst, confusing=confusing)
  return {kind: images[:number] for kind, images in chosen.items()}
