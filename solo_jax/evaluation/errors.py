"""The error of each detection, and the AP that each kind of error costs.

The kinds and their cost follow TIDE (Bolya et al. 2020,
https://arxiv.org/abs/2008.08115), for masks at IoU 0.5. Written from the paper.
The comparison decides which detections are correct, so the explained AP is
exactly mask AP50.
"""

import dataclasses

import numpy as np

from solo_jax.evaluation.comparison import Comparison, rows_of

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

  Both are in the order of the images, by increasing id.

  Attributes:
    image_ids: [D] int64.
    detection_ids: Positions in the results of the comparison. [D] int64.
    labels: Position of the class in the comparison. [D] int64.
    scores: [D] float64.
    kinds: Position in KINDS. [D] int64.
    objects: Row of the object that a detection found or should have found;
      -1 for duplicates, background and ignored ones. [D] int64.
    hits: Correct at IoU 0.50:0.05:0.95. [10, D] bool.
    object_ids: Positions in the annotations, without crowds. [N] int64.
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
  """The matches of one image over all classes, D and N long."""

  detections: np.ndarray  # row in the results
  labels: np.ndarray
  matches: np.ndarray  # row in `objects`, -1 without
  is_ignored: np.ndarray
  objects: np.ndarray  # row in the annotations
  object_labels: np.ndarray


def find_outcomes(comparison: Comparison) -> Outcomes:
  """Returns the kind of error of each detection.

  Args:
    comparison: Finished comparison of masks.

  Returns:
    The outcomes.
  """
  truth = comparison.truth
  image_ids = np.array([*truth.images], np.int64)
  # From the order of classes to that of images; both sorts are stable.
  order = np.argsort(comparison.images, kind="stable")
  is_object = ~truth.is_ignored[:, 0]
  objects = np.flatnonzero(is_object)
  objects = objects[np.argsort(truth.images_of_rows[objects], kind="stable")]
  place = np.full(len(is_object) + 1, -1)  # the last one for no object
  place[objects] = np.arange(len(objects))
  images, images_of_objects = (
    comparison.images[order],
    truth.images_of_rows[objects],
  )
  matches = place[comparison.objects[order]]
  kinds, aims = np.full(len(order), -1), np.full(len(order), -1)
  is_found, is_missed = np.zeros((2, len(objects)), bool)
  for image in range(len(image_ids)):
    here = rows_of(images, image)
    there = rows_of(images_of_objects, image)
    of_image = _Image(
      detections=comparison.rows[order[here]],
      labels=comparison.labels[order[here]],
      matches=np.where(matches[here] < 0, -1, matches[here] - there.start),
      is_ignored=comparison.is_ignored[order[here]],
      objects=truth.rows[objects[there]],
      object_labels=truth.labels[objects[there]],
    )
    kinds[here], rows, is_found[there], is_missed[there] = _classify(
      comparison, of_image
    )
    aims[here] = np.where(rows < 0, rows, rows + there.start)
  return Outcomes(
    image_ids=image_ids[images],
    detection_ids=comparison.rows[order],
    labels=comparison.labels[order],
    scores=comparison.scores[order],
    kinds=kinds,
    objects=aims,
    hits=comparison.is_hit[order].T,
    object_ids=truth.rows[objects],
    object_image_ids=image_ids[images_of_objects],
    object_labels=truth.labels[objects],
    is_found=is_found,
    is_missed=is_missed,
  )


def _classify(
  comparison: Comparison, image: _Image
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Returns kinds, objects [D] and is_found, is_missed [N] of one image."""
  num, num_objects = len(image.detections), len(image.objects)
  kinds = np.full(num, BACKGROUND)
  objects = np.full(num, -1)
  matched, is_ignored = image.matches, image.is_ignored
  is_correct = (matched >= 0) & ~is_ignored
  is_found = np.zeros(num_objects, bool)
  is_found[matched[is_correct]] = True
  is_aim = np.zeros(num_objects, bool)
  if num and num_objects:
    overlaps = comparison.overlaps(image.detections, image.objects)
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


def find_costs(outcomes: Outcomes, num_classes: int) -> dict[str, dict]:
  """Returns the gain in AP50 if one kind of error were fixed.

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
