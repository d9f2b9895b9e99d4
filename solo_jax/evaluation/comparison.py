"""Compares results with their ground truth by COCO's rules.

In a federated dataset (LVIS, https://arxiv.org/abs/1908.03195) no detection is
wrong if its category is not annotated exhaustively in its image.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from solo_jax.evaluation import rle
from solo_jax.evaluation.matching import IOUS, RECALLS, match, precision_table

# Annotated areas in pixels, limits included.
AREAS = {
  "all": (0, 1e10),
  "small": (0, 32**2),
  "medium": (32**2, 96**2),
  "large": (96**2, 1e10),
}
_LOW, _HIGH = np.array(list(AREAS.values()), float).T


class Truth:
  """The ground truth of a split.

  Attributes:
    images: COCO's entries by id, in the order of increasing ids.
    categories: COCO's entries, by increasing id; their position is the label.
    annotations: COCO's entries, with compressed RLE; not the dataset's own.
    rows: Position of each annotation of a listed image and class, by class,
      image and place in the dataset. [N] int64.
    images_of_rows: Position of the image. [N] int64.
    labels: [N] int64.
    is_crowd: [N] bool.
    is_ignored: Crowds, and objects out of an area range. [N, A] bool.
  """

  def __init__(self, dataset: dict):
    """Sorts a dataset.

    Args:
      dataset: Ground truth in COCO format, not modified.
    """
    images = {entry["id"]: entry for entry in dataset["images"]}
    self.images = dict(sorted(images.items()))
    categories = {entry["id"]: entry for entry in dataset["categories"]}
    self.categories = [entry for _, entry in sorted(categories.items())]
    self.annotations = [
      {**entry, "segmentation": _encode(entry["segmentation"], image)}
      if (image := images.get(entry["image_id"])) is not None
      else entry
      for entry in dataset["annotations"]
    ]
    self._image_rows = {key: row for row, key in enumerate(self.images)}
    self._labels = {c["id"]: k for k, c in enumerate(self.categories)}
    images, labels = self.places(self.annotations)
    order = np.lexsort((images, labels))
    self.rows = order[(images[order] >= 0) & (labels[order] >= 0)]
    self.images_of_rows, self.labels = images[self.rows], labels[self.rows]
    kept = [self.annotations[row] for row in self.rows]
    self.is_crowd = np.array([a["iscrowd"] for a in kept], bool)
    areas = np.array([a["area"] for a in kept], float)[:, None]
    self.is_ignored = (areas < _LOW) | (areas > _HIGH) | self.is_crowd[:, None]

  def places(self, entries: Sequence[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Returns (position of the image, label) of entries, -1 if not listed."""
    rows, labels = self._image_rows, self._labels
    return (
      np.array([rows.get(e["image_id"], -1) for e in entries], np.int64),
      np.array([labels.get(e["category_id"], -1) for e in entries], np.int64),
    )

  def not_exhaustive(self) -> tuple[np.ndarray, np.ndarray]:
    """Returns (position of the image, label) that are not fully annotated."""
    listed = [
      (row, self._labels[key])
      for row, image in enumerate(self.images.values())
      for key in image.get("not_exhaustive_category_ids", ())
      if key in self._labels
    ]
    rows, labels = np.array(listed, np.int64).reshape(-1, 2).T
    return rows, labels


@dataclasses.dataclass(frozen=True)
class Shapes:
  """What is compared: masks or boxes.

  Attributes:
    found: Shape of each result.
    truth: Shape of each annotation.
    areas: Area of each result. [len(found)] float64.
    overlaps: (shapes found, shapes of the truth, [N] uint8 whether they are
      crowds) to IoU [D, N] float64; to a crowd it is the share of the detection
      that is inside.
  """

  found: Sequence[Any]
  truth: Sequence[Any]
  areas: np.ndarray
  overlaps: Callable[[list, list, np.ndarray], np.ndarray] = coco_mask.iou


class Comparison:
  """Results matched with their ground truth.

  D detections count: the highest-scored `max_detections` of an image and class,
  in the order of classes, images and decreasing scores.

  Attributes:
    truth: The ground truth.
    results: The COCO results.
    max_detections: Per image and class.
    rows: Position in `results`. [D] int64.
    images: Position of the image. [D] int64.
    labels: [D] int64.
    scores: [D] float64.
    objects: Row of `truth.rows` that is matched at IoU 0.5, -1 for none.
      [D] int64.
    is_hit: Correct by IoU threshold. [D, T] bool.
    is_ignored: Counts neither way at IoU 0.5. [D] bool.
    precision: [T, R, K, A] float64, see `matching.precision_table`; by IoU
      threshold, recall, class and area.
    score_table: Score at each recall, as `precision`.
    recall: [T, K, A] float64.
  """

  def __init__(
    self,
    truth: Truth,
    results: Sequence[dict],
    shapes: Shapes,
    *,
    max_detections: int,
  ):
    """Matches results.

    Args:
      truth: The ground truth.
      results: COCO results.
      shapes: Shapes of both.
      max_detections: Highest-scored detections per image and class that count.
    """
    self.truth, self.results = truth, results
    self.max_detections = max_detections
    self._shapes = shapes
    images, labels = truth.places(results)
    scores = np.array([r["score"] for r in results], np.float64)
    order = np.lexsort((-scores, images, labels))
    order = order[(images[order] >= 0) & (labels[order] >= 0)]
    ranks = _ranks(labels[order], images[order])
    self.rows = rows = order[ranks < max_detections]
    self.images, self.labels = images[rows], labels[rows]
    self.scores = scores[rows]
    areas = shapes.areas[rows, None]
    self._is_outside = (areas < _LOW) | (areas > _HIGH)
    partly = np.zeros((len(truth.images), len(truth.categories)), bool)
    partly[truth.not_exhaustive()] = True
    self._is_not_judged = partly[self.images, self.labels]
    self.objects = np.full(len(rows), -1)
    self.is_hit = np.zeros((len(rows), len(IOUS)), bool)
    self.is_ignored = np.zeros(len(rows), bool)
    size = len(IOUS), len(RECALLS), len(truth.categories), len(AREAS)
    self.precision = np.full(size, -1.0)
    self.score_table = self.precision.copy()
    self.recall = self.precision[:, 0].copy()
    for label in range(len(truth.categories)):
      self._match_class(label)

  def _match_class(self, label: int) -> None:
    """Fills the rows and tables of one class."""
    found = rows_of(self.labels, label)
    there = rows_of(self.truth.labels, label)
    is_ignored = self.truth.is_ignored[there]
    matched = match(
      self._overlapping(found, there),
      self.images[found],
      self.truth.is_crowd[there],
      is_ignored,
    )
    has_object = matched >= 0
    ignored = self._is_outside[found, :, None]
    ignored = ~has_object & (ignored | self._is_not_judged[found, None, None])
    if len(is_ignored):
      areas = np.arange(len(AREAS))[:, None]
      ignored |= has_object & is_ignored[matched, areas]
    (
      self.precision[:, :, label],
      self.score_table[:, :, label],
      self.recall[:, label],
    ) = precision_table(
      self.scores[found], has_object, ignored, (~is_ignored).sum(0)
    )
    first = matched[:, 0, 0].astype(np.int64)
    self.objects[found] = np.where(first >= 0, first + there.start, -1)
    self.is_hit[found] = (has_object & ~ignored)[:, 0]
    self.is_ignored[found] = ignored[:, 0, 0]

  def overlaps(
    self, found: Sequence[int], annotations: Sequence[int]
  ) -> np.ndarray:
    """Returns the IoU of results and annotations, none of them a crowd.

    Args:
      found: Positions in `results`. [D].
      annotations: Positions in `truth.annotations`. [N].

    Returns:
      [D, N] float64.
    """
    return self._shapes.overlaps(
      [self._shapes.found[row] for row in found],
      [self._shapes.truth[row] for row in annotations],
      np.zeros(len(annotations), np.uint8),
    )

  def _overlapping(
    self, found: slice, there: slice
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns pairs of one class for `match`, rows relative to the slices."""
    images, of_truth = self.images[found], self.truth.images_of_rows[there]
    shapes = [self._shapes.found[row] for row in self.rows[found]]
    truth = [self._shapes.truth[row] for row in self.truth.rows[there]]
    is_crowd = self.truth.is_crowd[there].astype(np.uint8)
    both = np.intersect1d(images, of_truth)
    pairs = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for a, b, c, d in zip(
      np.searchsorted(images, both),
      np.searchsorted(images, both, "right"),
      np.searchsorted(of_truth, both),
      np.searchsorted(of_truth, both, "right"),
      strict=True,
    ):
      ious = self._shapes.overlaps(shapes[a:b], truth[c:d], is_crowd[c:d])
      rows, columns = np.nonzero(ious >= IOUS[0])
      pairs.append((rows + a, columns + c, ious[rows, columns]))
    return tuple(np.concatenate(part) for part in zip(*pairs, strict=True))


def mask_shapes(truth: Truth, results: Sequence[dict], **options) -> Shapes:
  """Returns the masks of both; a mask's area decides its size class."""
  found = [r["segmentation"] for r in results]
  masks = [a["segmentation"] for a in truth.annotations]
  return Shapes(found, masks, rle.areas(found).astype(float), **options)


def box_shapes(truth: Truth, results: Sequence[dict]) -> Shapes:
  """Returns the boxes of both."""
  found = [r["bbox"] for r in results]
  _, _, width, height = np.array(found, float).reshape(-1, 4).T
  boxes = [a["bbox"] for a in truth.annotations]
  return Shapes(found, boxes, width * height)


def _ranks(labels: np.ndarray, images: np.ndarray) -> np.ndarray:
  """Returns the position of sorted entries in their image and class."""
  rows = np.arange(len(labels))
  is_first = np.ones(len(labels), bool)
  is_first[1:] = np.diff(labels).astype(bool) | np.diff(images).astype(bool)
  return rows - np.maximum.accumulate(np.where(is_first, rows, 0))


def rows_of(keys: np.ndarray, key: int) -> slice:
  """Returns the rows of a key in sorted keys, by binary search."""
  return slice(
    *(np.searchsorted(keys, key, side) for side in ("left", "right"))
  )


def _encode(segmentation: list | dict, image: dict) -> dict:
  """Returns compressed RLE of any segmentation that COCO's format allows."""
  if isinstance(segmentation, dict) and not isinstance(
    segmentation["counts"], list
  ):
    return segmentation
  encoded = coco_mask.frPyObjects(segmentation, image["height"], image["width"])
  return coco_mask.merge(encoded) if isinstance(encoded, list) else encoded
