"""COCO's matching of detections with objects, for one class.

All images, area ranges and IoU thresholds are matched at once: round r takes
the r-th detection of every image, in which it may only depend on the earlier
ones. Written from the definition of COCO's metrics (https://cocodataset.org);
the results equal those of pycocotools, to the last bit.
"""

import numpy as np

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


def match(
  pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
  images: np.ndarray,
  is_crowd: np.ndarray,
  is_ignored: np.ndarray,
) -> np.ndarray:
  """Returns the object of each detection.

  In order of decreasing score, each detection takes the free object with the
  highest IoU. Objects that are not ignored come before ignored ones, and of
  equal ones the last is taken. A crowd stays free.

  Args:
    pairs: (row of a detection, row of an object, their IoU) of all pairs whose
      IoU reaches the lowest threshold, sorted by detection, then by object. [P]
      each.
    images: Image of each detection; detections of one image follow each other
      by decreasing score. [D] int.
    is_crowd: Whether an object is a crowd. [N] bool.
    is_ignored: Whether it does not count in an area range. [N, A] bool.

  Returns:
    Row of the object by area range and IoU threshold, -1 for none.
    [D, A, T] int32.
  """
  of_pairs, objects, ious = pairs
  matched = np.full((len(images), is_ignored.shape[1], len(IOUS)), -1, np.int32)
  is_taken = np.zeros((len(is_crowd), *matched.shape[1:]), bool)
  rows, starts, counts = np.unique(
    of_pairs, return_index=True, return_counts=True
  )
  if not len(rows):
    return matched
  limits = np.minimum(IOUS, 1 - 1e-10)  # as in pycocotools
  first = np.searchsorted(images[rows], images[rows])
  rounds = np.arange(len(rows)) - first
  in_rounds = np.argsort(rounds, kind="stable")
  for chosen in np.split(in_rounds, np.cumsum(np.bincount(rounds))[:-1]):
    best = np.full((len(chosen), *matched.shape[1:]), -1, np.int32)
    best_iou = np.full(best.shape, -1.0)
    is_counted = np.zeros(best.shape, bool)
    for i in range(counts[chosen].max()):
      of_row = np.flatnonzero(counts[chosen] > i)
      pair = starts[chosen[of_row]] + i
      found = objects[pair]
      iou = ious[pair, None, None]
      counts_more = ~is_ignored[found, :, None]
      is_better = (iou >= limits) & (
        ~is_taken[found] | is_crowd[found, None, None]
      )
      is_better &= (counts_more > is_counted[of_row]) | (
        (counts_more == is_counted[of_row]) & (iou >= best_iou[of_row])
      )
      best[of_row] = np.where(is_better, found[:, None, None], best[of_row])
      best_iou[of_row] = np.where(is_better, iou, best_iou[of_row])
      is_counted[of_row] = np.where(is_better, counts_more, is_counted[of_row])
    matched[rows[chosen]] = best
    row, area, threshold = np.nonzero(best >= 0)
    is_taken[best[row, area, threshold], area, threshold] = True
  return matched


def precision_table(
  scores: np.ndarray,
  is_hit: np.ndarray,
  is_ignored: np.ndarray,
  num_objects: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns precision and score at each recall, and the final recall.

  Args:
    scores: [D].
    is_hit: Whether a detection has an object. [D, A, T] bool.
    is_ignored: Whether it counts neither way. [D, A, T] bool.
    num_objects: Objects that count, by area range. [A] int.

  Returns:
    precision: Highest precision at RECALLS or beyond, 0 where they are not
      reached, -1 without objects. [T, R, A] float64.
    score: The score at which they are reached, otherwise as precision.
      [T, R, A] float64.
    recall: [T, A] float64.
  """
  order = np.argsort(-scores, kind="stable")
  num_areas = len(num_objects)
  precision = np.full((len(IOUS), len(RECALLS), num_areas), -1.0)
  score, recall = precision.copy(), precision[:, 0].copy()
  for area in np.flatnonzero(num_objects):
    hit, ignored = is_hit[order, area], is_ignored[order, area]
    right = np.cumsum(hit & ~ignored, 0, dtype=np.float64)
    wrong = np.cumsum(~hit & ~ignored, 0, dtype=np.float64)
    recalls = right / num_objects[area]
    precisions = right / (wrong + right + np.spacing(1))
    highest = np.maximum.accumulate(precisions[::-1])[::-1]
    recall[:, area] = recalls[-1] if len(order) else 0
    for t in range(len(IOUS)):
      at = np.searchsorted(recalls[:, t], RECALLS)
      kept = at < len(order)
      precision[t, :, area] = score[t, :, area] = 0
      precision[t, kept, area] = highest[at[kept], t]
      score[t, kept, area] = scores[order[at[kept]]]
  return precision, score, recall
