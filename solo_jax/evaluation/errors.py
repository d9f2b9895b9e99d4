"""The error of each detection, and the AP that each kind of error costs.

The kinds and their cost follow TIDE (Bolya et al. 2020,
https://arxiv.org/abs/2008.08115), for masks at IoU 0.5. Written from the paper;
pycocotools decides which detections are correct, so the explained AP is exactly
mask AP50.
"""

import collections
import dataclasses
from collections.abc import Iterator

import numpy as np
from pycocotools import mask as coco_mask

from solo_jax.evaluation.coco_metrics import Comparison

HIT_IOU = 0.5
BACKGROUND_IOU = 0.1
# Each detection is one of these; in addition, objects may be missed.
KINDS = (
  "correct",
  "localisation",  # its class, IoU 0.1 to 0.5
  "class",  # another class, IoU of 0.5 or more
  "duplicate",  # its class, but the object is found by a higher score
  "background",  # no object with IoU above 0.1
  "both",  # another class, IoU 0.1 to 0.5
  "ignored",  # on a crowd, or not judged: counts neither way
)
CORRECT, LOCALISATION, CLASS, DUPLICATE, BACKGROUND, BOTH, IGNORED = range(7)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcomes:
  """Every detection that counts and every object of a split, D and N of them.

  Both are in the order of the images, by rising id.

  Attributes:
    image_ids: [D] int64.
    detection_ids: Ids of the detections in the comparison. [D] int64.
    labels: Position of the class in the comparison. [D] int64.
    scores: [D] float64.
    kinds: Position in KINDS. [D] int64.
    objects: Row of the object that a detection found or should have found;
      -1 for duplicates, background and ignored ones. [D] int64.
    hits: Correct at IoU 0.50:0.05:0.95. [10, D] bool.
    object_ids: Ids from `coco_metrics.index`, without crowds. [N] int64.
    object_image_ids: [N] int64.
    object_labels: [N] int64.
    is_found: Whether a correct detection found it. [N] bool.
    is_missed: Neither found nor the target of a localisation or class error.
      [N].
  """

  image_ids: np.ndarray
  detection_ids: np.ndarray
  labels: np.ndarray
  scores: np.ndarray
  kinds: np.ndarray
  objects: np.ndarray
  hits: np.ndarray
  object_ids: np.ndarray
  object_image_ids: np.ndarray
  object_labels: np.ndarray
  is_found: np.ndarray
  is_missed: np.ndarray


@dataclasses.dataclass
class _Image:
  """The matches of one image over all classes, lists of equal length."""

  detections: list[int]
  labels: list[int]
  scores: list[float]
  matches: list[int]  # object id, 0 without
  is_ignored: list[bool]
  hits: list[np.ndarray]
  objects: list[int]
  object_labels: list[int]


def find_outcomes(comparison: Comparison) -> Outcomes:
  """Returns the kind of error of each detection.

  Args:
    comparison: Finished comparison of masks.

  Returns:
    The outcomes.
  """
  rows = collections.defaultdict(list)
  num_objects = 0
  for image_id, image in _iterate_images(comparison):
    kinds, objects, is_found, is_missed = _classify(comparison, image)
    rows["image_ids"] += [image_id] * len(image.detections)
    rows["detection_ids"] += image.detections
    rows["labels"] += image.labels
    rows["scores"] += image.scores
    rows["kinds"] += kinds.tolist()
    rows["objects"] += np.where(
      objects < 0, objects, objects + num_objects
    ).tolist()
    rows["hits"] += image.hits
    rows["object_ids"] += image.objects
    rows["object_image_ids"] += [image_id] * len(image.objects)
    rows["object_labels"] += image.object_labels
    rows["is_found"] += is_found.tolist()
    rows["is_missed"] += is_missed.tolist()
    num_objects += len(image.objects)
  dtypes = dict(scores=np.float64, is_found=bool, is_missed=bool)
  hits = np.array(rows.pop("hits"), bool).reshape(-1, 10).T
  names = {field.name for field in dataclasses.fields(Outcomes)} - {"hits"}
  return Outcomes(
    hits=hits,
    **{n: np.array(rows[n], dtypes.get(n, np.int64)) for n in names},
  )


def _iterate_images(comparison: Comparison) -> Iterator[tuple[int, _Image]]:
  """Yields the matches of each image, gathered over the classes."""
  params = comparison.params
  num_images, num_areas = len(params.imgIds), len(params.areaRng)
  for i, image_id in enumerate(params.imgIds):
    image = _Image([], [], [], [], [], [], [], [])
    for label in range(len(params.catIds)):
      # Areas vary faster than classes; the first is 'all'.
      found = comparison.evalImgs[label * num_areas * num_images + i]
      if found is None:
        continue
      image.detections += found["dtIds"]
      image.labels += [label] * len(found["dtIds"])
      image.scores += found["dtScores"]
      image.matches += found["dtMatches"][0].astype(int).tolist()
      image.is_ignored += found["dtIgnore"][0].tolist()
      image.hits += [*((found["dtMatches"] > 0) & ~found["dtIgnore"]).T]
      kept = [
        key
        for key, ignored in zip(found["gtIds"], found["gtIgnore"], strict=True)
        if not ignored
      ]
      image.objects += kept
      image.object_labels += [label] * len(kept)
    yield image_id, image


def _classify(
  comparison: Comparison, image: _Image
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Returns kinds, objects [D] and is_found, is_missed [N] of one image."""
  num, num_objects = len(image.detections), len(image.objects)
  kinds = np.full(num, BACKGROUND)
  objects = np.full(num, -1)
  row_of = {key: row for row, key in enumerate(image.objects)}
  is_ignored = np.array(image.is_ignored, bool)
  matched = np.array([row_of.get(key, -1) for key in image.matches], int)
  is_correct = (matched >= 0) & ~is_ignored
  is_found = np.zeros(num_objects, bool)
  is_found[matched[is_correct]] = True
  is_aim = np.zeros(num_objects, bool)
  if num and num_objects:
    overlaps = _overlaps(comparison, image)
    is_same = np.equal.outer(image.labels, image.object_labels)
    same = np.where(is_same, overlaps, -1)
    other = np.where(is_same, -1, overlaps)
    used = np.where(is_found, same, -1)
    # Later lines win.
    kinds[overlaps.max(1) > BACKGROUND_IOU] = BOTH
    kinds[used.max(1) >= HIT_IOU] = DUPLICATE
    kinds[other.max(1) >= HIT_IOU] = CLASS
    best = same.max(1)
    kinds[(best >= BACKGROUND_IOU) & (best <= HIT_IOU)] = LOCALISATION
    for kind, table in ((CLASS, other), (LOCALISATION, same)):
      objects[kinds == kind] = table.argmax(1)[kinds == kind]
    is_error = ~is_correct & ~is_ignored & (objects >= 0)
    is_aim[objects[is_error]] = True
  kinds[is_correct], objects[is_correct] = CORRECT, matched[is_correct]
  kinds[is_ignored], objects[is_ignored] = IGNORED, -1
  return kinds, objects, is_found, ~is_found & ~is_aim


def _overlaps(comparison: Comparison, image: _Image) -> np.ndarray:
  """Returns the IoU of all detections and objects of an image. [D, N]."""
  found, truth = comparison.cocoDt.anns, comparison.cocoGt.anns
  return coco_mask.iou(
    [found[key]["segmentation"] for key in image.detections],
    [truth[key]["segmentation"] for key in image.objects],
    [0] * len(image.objects),
  )


def find_costs(outcomes: Outcomes, num_classes: int) -> dict[str, dict]:
  """Returns the gain of AP50 if one kind of error were fixed.

  Fixing a localisation or class error turns it into a hit, unless its object is
  already found or is the target of another such error of a higher score; then
  it is removed like the other errors. Missed objects are removed from the
  recall.

  Args:
    outcomes: Outcomes of a split.
    num_classes: K.

  Returns:
    By kind of error, 'missed' among them: its number and the AP50 gained in
    [0, 1], None without any object.
  """
  is_wrong = np.isin(outcomes.kinds, (CORRECT, IGNORED), invert=True)
  is_hit = outcomes.kinds == CORRECT
  counted = outcomes.kinds != IGNORED
  num_truth = np.bincount(outcomes.object_labels, minlength=num_classes)

  def measure(is_hit, kept, labels, num_truth):
    kept = kept & counted
    return _mean_average_precision(
      outcomes.scores[kept], is_hit[kept], labels[kept], num_truth
    )

  base = measure(is_hit, counted, outcomes.labels, num_truth)
  is_corrected = _choose_corrected(outcomes)
  costs = {}
  for kind in (LOCALISATION, CLASS, DUPLICATE, BACKGROUND, BOTH):
    is_kind = is_wrong & (outcomes.kinds == kind)
    corrected = is_kind & is_corrected
    labels = np.where(
      corrected,
      np.append(outcomes.object_labels, -1)[outcomes.objects],
      outcomes.labels,
    )
    value = measure(is_hit | corrected, ~is_kind | corrected, labels, num_truth)
    costs[KINDS[kind]] = dict(number=int(is_kind.sum()), gain=value)
  missed = outcomes.object_labels[outcomes.is_missed]
  left = num_truth - np.bincount(missed, minlength=num_classes)
  value = measure(is_hit, counted, outcomes.labels, left)
  costs["missed"] = dict(number=len(missed), gain=value)
  for cost in costs.values():
    if base is None:
      cost["gain"] = None
    else:  # if all objects were missed, nothing is left to find: a full gain
      cost["gain"] = (1.0 if cost["gain"] is None else cost["gain"]) - base
  return costs


def _choose_corrected(outcomes: Outcomes) -> np.ndarray:
  """Returns the best error to fix for each object that was missed. [D] bool."""
  aims = np.isin(outcomes.kinds, (LOCALISATION, CLASS))
  taken = np.append(outcomes.is_found, True)  # the last is object -1
  is_corrected = np.zeros(len(outcomes.scores), bool)
  for i in np.argsort(-outcomes.scores, kind="mergesort"):
    if aims[i] and not taken[outcomes.objects[i]]:
      taken[outcomes.objects[i]] = is_corrected[i] = True
  return is_corrected


def _mean_average_precision(
  scores: np.ndarray,
  is_hit: np.ndarray,
  labels: np.ndarray,
  num_truth: np.ndarray,
) -> float | None:
  """Returns mean AP over the classes with objects; None if there are none."""
  values = [
    average_precision(scores[labels == k], is_hit[labels == k], num_truth[k])
    for k in np.flatnonzero(num_truth)
  ]
  return float(np.mean(values)) if values else None


def average_precision(
  scores: np.ndarray, is_hit: np.ndarray, num_truth: int
) -> float:
  """Returns COCO's AP of one class at one IoU, at 101 recalls.

  Args:
    scores: [D].
    is_hit: [D] bool.
    num_truth: Objects, at least 1.

  Returns:
    In [0, 1].

  Examples:
    >>> scores = np.array([0.9, 0.8, 0.7])
    >>> is_hit = np.array([True, False, True])
    >>> round(average_precision(scores, is_hit, num_truth=2), 3)
    0.835
  """
  order = np.argsort(-scores, kind="mergesort")
  hits = np.cumsum(is_hit[order])
  precision = hits / np.arange(1, len(hits) + 1)
  precision = np.maximum.accumulate(precision[::-1])[::-1]
  # The recalls as pycocotools rounds them: ties decide.
  at = np.searchsorted(hits / num_truth, np.linspace(0, 1, 101), side="left")
  return float(np.append(precision, 0)[at].mean())
