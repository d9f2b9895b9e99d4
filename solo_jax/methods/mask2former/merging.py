"""From queries to instances, a panoptic or a semantic map, on the host.

The rules of the original repository, all at the image's own size and on
logits: they are resized to the padded input, cropped to the image and resized
to its original size. Shape letters: Q queries, K classes, h, w mask resolution,
n rows of a band.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterator

import jax
import numpy as np
import scipy.sparse
import scipy.special

from solo_jax import types
from solo_jax.methods.mask2former.network import MASK_STRIDE
from solo_jax.nn.resize import interpolation_matrix

# Rows that are held at once, for all queries.
BAND = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Queries:
  """The last output for one image, on the host.

  Attributes:
    class_logits: [Q, K + 1] float32; the last class is 'no object'.
    mask_logits: [Q, h, w] float32.
    image_size: Valid (height, width) of the network input.
    original_size: (H0, W0).
  """

  class_logits: np.ndarray
  mask_logits: np.ndarray
  image_size: tuple[int, int]
  original_size: tuple[int, int]

  @property
  def probs(self) -> np.ndarray:
    """Returns the class probabilities. [Q, K + 1] float32."""
    return scipy.special.softmax(self.class_logits, axis=-1)

  def bands(
    self, kept: np.ndarray | None = None
  ) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields masks resized to the original size, a few rows at a time.

    Args:
      kept: Indices of queries; None: all.

    Yields:
      Rows and the logits there. [Q or kept, n, W0] float32.
    """
    logits = self.mask_logits if kept is None else self.mask_logits[kept]
    number, height, width = logits.shape
    rows, columns = (
      _resize_matrix(n * MASK_STRIDE, n, valid, original)
      for n, valid, original in zip(
        (height, width), self.image_size, self.original_size, strict=True
      )
    )
    by_column = logits.reshape(-1, width) @ columns.T
    by_column = by_column.reshape(number, height, -1).transpose(1, 0, 2)
    by_column = by_column.reshape(height, -1)
    for start in range(0, self.original_size[0], BAND):
      band = slice(start, min(start + BAND, self.original_size[0]))
      values = rows[band] @ by_column
      yield (
        band,
        values.reshape(len(values), number, -1).transpose(1, 0, 2),
      )


def _resize_matrix(
  padded: int, cells: int, valid: int, original: int
) -> scipy.sparse.csr_matrix:
  """Returns both resizes of an axis as a matrix. [original, cells] float32."""
  to_input = scipy.sparse.csr_matrix(interpolation_matrix(cells, padded))
  return (
    scipy.sparse.csr_matrix(interpolation_matrix(valid, original))
    @ to_input[:valid]
  )


def merge_instances(
  queries: Queries, *, things: Collection[int], max_detections: int
) -> types.Instances:
  """Returns instances: any class of any query, by decreasing probability.

  A query may appear with several classes; nothing suppresses it. The score is
  the probability of the class times the mean probability inside the mask.

  Args:
    queries: Queries of the image.
    things: Labels of things; stuff is left out after the best were chosen.
    max_detections: How many are chosen.

  Returns:
    The instances, by decreasing score, 0 where the mask is empty.
  """
  probs = queries.probs[:, :-1]
  best = np.argsort(-probs.reshape(-1), kind="stable")[:max_detections]
  query, labels = np.divmod(best, probs.shape[1])
  is_thing = np.isin(labels, list(things))
  query, labels = query[is_thing], labels[is_thing]
  kept, row = np.unique(query, return_inverse=True)
  height, width = queries.original_size
  planes = np.empty((len(kept), width, height), bool)
  total, count = np.zeros((2, len(kept)))
  for band, logits in queries.bands(kept):
    inside = logits > 0
    total += np.sum(scipy.special.expit(logits), axis=(1, 2), where=inside)
    count += np.count_nonzero(inside, axis=(1, 2))
    planes[:, :, band] = inside.transpose(0, 2, 1)
  scores = probs[query, labels] * (total / (count + 1e-6))[row]
  order = np.argsort(-scores, kind="stable")
  masks = planes[row[order]].transpose(0, 2, 1)
  return types.Instances(
    masks=masks,
    scores=scores[order].astype(np.float32),
    labels=labels[order].astype(np.int32),
    boxes_xyxy=_tight_boxes(planes)[row[order]],
  )


def _tight_boxes(planes: np.ndarray) -> np.ndarray:
  """Returns boxes of masks [M, W0, H0], zeros if empty. [M, 4] float32."""
  boxes = np.zeros((len(planes), 4), np.float32)
  for box, plane in zip(boxes, planes, strict=True):
    x, y = np.flatnonzero(plane.any(1)), np.flatnonzero(plane.any(0))
    if len(x):
      box[:] = x[0], y[0], x[-1] + 1, y[-1] + 1
  return boxes


def merge_semantic(queries: Queries) -> types.SegmentMap:
  """Returns a semantic map: each pixel's class with the largest sum.

  Args:
    queries: Queries of the image.

  Returns:
    The map; the id of a class is its label plus one.
  """
  by_class = queries.probs[:, :-1].T  # [K, Q]
  labels = np.empty(queries.original_size, np.int32)
  for band, logits in queries.bands():
    masks = scipy.special.expit(logits)
    scores = by_class @ masks.reshape(len(masks), -1)
    labels[band] = scores.argmax(0).reshape(masks.shape[1:])
  segments = [
    types.Segment(id=label + 1, label=label, score=1.0, is_thing=False)
    for label in np.unique(labels).tolist()
  ]
  return types.SegmentMap(ids=labels + 1, segments=segments)


def merge_panoptic(
  queries: Queries,
  *,
  things: Collection[int],
  min_score: float,
  min_visible: float,
) -> types.SegmentMap:
  """Returns a panoptic map in which each pixel belongs to one query.

  Args:
    queries: Queries of the image.
    things: Labels of things. Stuff of one class is one
      segment, whatever the number of its queries.
    min_score: Queries with at most this class probability get no segment.
    min_visible: Queries with a smaller visible share get no segment.

  Returns:
    The map.
  """
  probs = queries.probs
  labels, scores = probs.argmax(1), probs.max(1)
  kept = np.flatnonzero((labels < probs.shape[1] - 1) & (scores > min_score))
  owner = np.full(queries.original_size, -1, np.int32)
  inside = np.zeros(queries.original_size, bool)  # of the owner's own mask
  full = np.zeros(len(kept), int)
  for band, logits in queries.bands(kept) if len(kept) else ():
    masks = scipy.special.expit(logits)
    best = (scores[kept, None, None] * masks).argmax(0)
    is_mask = masks >= 0.5
    owner[band] = best
    inside[band] = np.take_along_axis(is_mask, best[None], axis=0)[0]
    full += np.count_nonzero(is_mask, axis=(1, 2))
  area = np.bincount(owner[owner >= 0], minlength=len(kept))
  final = np.bincount(owner[inside], minlength=len(kept))
  ids = np.zeros(len(kept) + 1, np.int32)  # the last one means no owner
  segments, stuff = [], {}
  for i, query in enumerate(kept):
    if not (area[i] and full[i] and final[i]):
      continue
    if area[i] / full[i] < min_visible:
      continue
    label = int(labels[query])
    is_thing = label in things
    if not is_thing and label in stuff:
      ids[i] = stuff[label]
      continue
    ids[i] = len(segments) + 1
    segments.append(
      types.Segment(
        id=int(ids[i]),
        label=label,
        score=float(scores[query]),
        is_thing=is_thing,
      )
    )
    if not is_thing:
      stuff[label] = ids[i]
  return types.SegmentMap(
    ids=np.where(inside, ids[owner], 0).astype(np.int32), segments=segments
  )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentQueries:
  """Device outputs of a panoptic or semantic segmentation.

  Attributes:
    class_logits: [B, Q, K + 1] float32.
    mask_logits: [B, Q, h, w] float32.
    merge: Queries of an image -> SegmentMap.
  """

  class_logits: jax.Array
  mask_logits: jax.Array
  merge: Callable[[Queries], types.SegmentMap] = dataclasses.field(
    metadata=dict(static=True)
  )

  def to_original(
    self,
    row: int,
    image_size: tuple[int, int],
    original_size: tuple[int, int],
  ) -> types.SegmentMap:
    """Returns the map of an image, on the host.

    Args:
      row: Row of the image in the batch.
      image_size: Valid (height, width) of the network input.
      original_size: (H0, W0).

    Returns:
      The map.
    """
    return self.merge(
      Queries(
        class_logits=np.asarray(self.class_logits[row]),
        mask_logits=np.asarray(self.mask_logits[row]),
        image_size=tuple(image_size),
        original_size=tuple(original_size),
      )
    )
