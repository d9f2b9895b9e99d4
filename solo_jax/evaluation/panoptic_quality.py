"""Panoptic quality (https://arxiv.org/abs/1801.00868), as COCO computes it."""

import dataclasses
from collections.abc import Mapping

import numpy as np

VOID = 0  # of both maps: no segment
MIN_IOU = 0.5  # strictly above it a match is unique


@dataclasses.dataclass(frozen=True)
class Quality:
  """Means over the categories that occur, 0 if none does.

  Attributes:
    pq: Panoptic quality, the product of the next two in each category.
    sq: Segmentation quality: mean IoU of the matches.
    rq: Recognition quality: F1 of the segments.
    num_categories: Categories that occur in ground truth or predictions.
  """

  pq: float
  sq: float
  rq: float
  num_categories: int


@dataclasses.dataclass
class Counts:
  """Counts of one category.

  Attributes:
    matched: True positives.
    extra: False positives.
    missed: False negatives.
    iou: Sum over the matches.
  """

  matched: int = 0
  extra: int = 0
  missed: int = 0
  iou: float = 0.0

  def quality(self) -> Quality:
    """Returns the quality of this category alone."""
    size = self.matched + 0.5 * self.extra + 0.5 * self.missed
    if not size:
      return Quality(0.0, 0.0, 0.0, 0)
    sq = self.iou / self.matched if self.matched else 0.0
    return Quality(self.iou / size, sq, self.matched / size, 1)


class PanopticQuality:
  """Adds up images.

  Attributes:
    is_thing: Whether each category id is a thing.
    counts: Counts of each category id.
  """

  def __init__(self, is_thing: Mapping[int, bool]):
    self.is_thing = dict(is_thing)
    self.counts = {category: Counts() for category in is_thing}

  def add(
    self,
    truth_ids: np.ndarray,
    truth: Mapping[int, tuple[int, bool]],
    found_ids: np.ndarray,
    found: Mapping[int, int],
  ) -> None:
    """Compares two maps of an image.

    A prediction without a match is ignored if more than half of it is on void
    and on the crowd of its category (the last one if there are several).

    Args:
      truth_ids: Segment of each pixel, VOID for none. [H, W] int.
      truth: (category, is crowd) of each segment.
      found_ids: Predicted segments. [H, W] int.
      found: Category of each predicted segment.

    Raises:
      ValueError: If the maps differ in size, a predicted segment is in the map
        and not listed or the other way round, or a category is unknown.
    """
    if truth_ids.shape != found_ids.shape:
      raise ValueError(
        f"the maps have sizes {truth_ids.shape} and {found_ids.shape}"
      )
    truth_area, found_area = _areas(truth_ids), _areas(found_ids)
    self._check(truth, found, found_area)
    shared = _shared_areas(truth_ids, found_ids)
    is_matched = set()  # ids of truth as (id, True), predicted as (id, False)
    for (i, j), area in shared.items():
      if i not in truth or j not in found:
        continue
      category, is_crowd = truth[i]
      if is_crowd or category != found[j]:
        continue
      union = truth_area[i] + found_area[j] - area - shared.get((VOID, j), 0)
      if area / union > MIN_IOU:
        self.counts[category].matched += 1
        self.counts[category].iou += area / union
        is_matched |= {(i, True), (j, False)}
    crowds = {}
    for i, (category, is_crowd) in truth.items():
      if is_crowd:
        crowds[category] = i
      elif (i, True) not in is_matched:
        self.counts[category].missed += 1
    for j, category in found.items():
      if (j, False) in is_matched:
        continue
      ignored = shared.get((VOID, j), 0)
      if category in crowds:
        ignored += shared.get((crowds[category], j), 0)
      if ignored / found_area[j] <= 0.5:
        self.counts[category].extra += 1

  def _check(self, truth, found, found_area) -> None:
    if set(found) != set(found_area) - {VOID}:
      raise ValueError(
        f"the predicted map has segments {sorted(set(found_area) - {VOID})}, "
        f"listed are {sorted(found)}"
      )
    categories = {category for category, _ in truth.values()}
    unknown = (categories | set(found.values())) - set(self.counts)
    if unknown:
      raise ValueError(f"unknown categories {sorted(unknown)}")

  def summarize(self, is_thing: bool | None = None) -> Quality:
    """Returns averages over categories.

    Args:
      is_thing: Only things, only stuff, or None for all.

    Returns:
      The means.
    """
    each = [
      counts.quality()
      for category, counts in self.counts.items()
      if is_thing is None or self.is_thing[category] == is_thing
    ]
    each = [quality for quality in each if quality.num_categories]
    if not each:
      return Quality(0.0, 0.0, 0.0, 0)
    values = [(quality.pq, quality.sq, quality.rq) for quality in each]
    return Quality(*np.mean(values, axis=0).tolist(), len(each))


def _areas(ids: np.ndarray) -> dict[int, int]:
  values, counts = np.unique(ids, return_counts=True)
  return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _shared_areas(
  truth_ids: np.ndarray, found_ids: np.ndarray
) -> dict[tuple[int, int], int]:
  """Returns the shared pixels of each pair of overlapping segments."""
  pairs = truth_ids.astype(np.uint64) << np.uint64(32)
  pairs |= found_ids.astype(np.uint64)
  return {
    (pair >> 32, pair & 0xFFFFFFFF): count
    for pair, count in _areas(pairs).items()
  }
