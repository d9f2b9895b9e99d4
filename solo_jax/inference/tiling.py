"""Cutting an image larger than the network's field into overlapping tiles.

A grid method sees a fixed number of cells whatever the size of its input, so
an image with hundreds of small objects is read tile by tile. An object that
fits into the overlap lies whole in at least one tile: detections cut by a seam
give way to those, and what neighbours found twice is kept once.
"""

import bisect
import collections
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from solo_jax import types

# Two detections of neighbouring tiles are one object when they share more than
# this part of the smaller one.
SAME_OBJECT = 0.5


def tile_origins(
  size: tuple[int, int], tile_size: int, overlap: int
) -> list[tuple[int, int]]:
  """Lays square tiles over an image, evenly, neighbours sharing `overlap`.

  Args:
    size: (height, width) of the image.
    tile_size: Side of a tile in pixels.
    overlap: Pixels that neighbouring tiles share at least.

  Returns:
    (top, left) of each tile, row by row; one tile at (0, 0) for an image that
    is not larger than a tile.
  """

  def starts(length):
    step = tile_size - overlap
    count = max(1, -(-(length - overlap) // step))
    return np.round(np.linspace(0, max(length - tile_size, 0), count))

  return [(int(y), int(x)) for y in starts(size[0]) for x in starts(size[1])]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
  """A detection of a tile, its mask kept inside its box only.

  Attributes:
    is_cut: A seam cuts it: it touches an edge of the tile that is no edge of
      the image.
    score: In [0, 1].
    label: 0..K-1.
    top: First row in the whole image.
    left: First column in the whole image.
    mask: [h, w] bool.
    area: Pixels of the mask.
  """

  is_cut: bool
  score: float
  label: int
  top: int
  left: int
  mask: np.ndarray
  area: int


def cut_out(
  found: types.Instances, origin: tuple[int, int], size: tuple[int, int]
) -> list[Piece]:
  """Cuts the detections of a tile out of its dense masks.

  Args:
    found: Detections at the tile's size.
    origin: (top, left) of the tile.
    size: (height, width) of the whole image.

  Returns:
    A piece for each detection whose mask is not empty.
  """
  pieces = []
  for mask, score, label, box in zip(
    found.masks, found.scores, found.labels, found.boxes_xyxy, strict=True
  ):
    left, top, right, bottom = (int(v) for v in box)
    if right <= left or bottom <= top:
      continue
    height, width = mask.shape
    # An edge of the tile is a seam unless it is an edge of the image.
    is_cut = (
      (top == 0 and origin[0] > 0)
      or (left == 0 and origin[1] > 0)
      or (bottom == height and origin[0] + height < size[0])
      or (right == width and origin[1] + width < size[1])
    )
    inside = mask[top:bottom, left:right].copy()  # a view would keep the tile
    pieces.append(
      Piece(
        is_cut=bool(is_cut),
        score=float(score),
        label=int(label),
        top=top + origin[0],
        left=left + origin[1],
        mask=inside,
        area=int(np.count_nonzero(inside)),
      )
    )
  return pieces


def merge_tiles(
  tiles: Sequence[Sequence[Piece]],
  origins: Sequence[tuple[int, int]],
  tile_size: int,
  size: tuple[int, int],
) -> types.Instances:
  """Joins the detections of all tiles of an image.

  Memory and time follow the detections, not the image: masks stay cropped,
  and only those of tiles that share pixels are compared.

  Args:
    tiles: Pieces of each tile.
    origins: (top, left) of each tile.
    tile_size: Side of a tile in pixels.
    size: (height, width) of the whole image.

  Returns:
    Detections of the whole image by falling score, with CroppedMasks.
    Detections that a seam cuts are kept only where no other tile has the
    object.
  """
  starts = np.cumsum([0, *(len(pieces) for pieces in tiles)])
  pieces = [piece for found in tiles for piece in found]
  same = collections.defaultdict(list)  # piece -> those of the same object
  for a, b in _neighbours(origins, tile_size):
    for i, j in _touching(tiles[a], tiles[b]):
      if _is_same_object(tiles[a][i], tiles[b][j]):
        same[starts[a] + i].append(starts[b] + j)
        same[starts[b] + j].append(starts[a] + i)
  is_kept = np.zeros(len(pieces), bool)
  order = sorted(
    range(len(pieces)), key=lambda i: (pieces[i].is_cut, -pieces[i].score)
  )
  for i in order:
    is_kept[i] = not any(is_kept[j] for j in same[i])
  kept = [pieces[i] for i in order if is_kept[i]]
  kept.sort(key=lambda p: -p.score)
  boxes = [
    (p.left, p.top, p.left + p.mask.shape[1], p.top + p.mask.shape[0])
    for p in kept
  ]
  return types.Instances(
    masks=types.CroppedMasks(
      size=size,
      corners=[(p.top, p.left) for p in kept],
      crops=[p.mask for p in kept],
    ),
    scores=np.array([p.score for p in kept], np.float32),
    labels=np.array([p.label for p in kept], np.int32),
    boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
  )


def _neighbours(
  origins: Sequence[tuple[int, int]], tile_size: int
) -> Iterator[tuple[int, int]]:
  """Yields the pairs of tiles that share pixels."""
  number = {origin: index for index, origin in enumerate(origins)}
  tops = sorted({top for top, _ in origins})
  lefts = sorted({left for _, left in origins})
  for (top, left), index in number.items():
    for y in tops:
      if abs(y - top) >= tile_size:
        continue
      for x in lefts[bisect.bisect_right(lefts, left - tile_size) :]:
        if x >= left + tile_size:
          break
        if number[y, x] > index:
          yield index, number[y, x]


def _touching(one: Sequence[Piece], other: Sequence[Piece]) -> np.ndarray:
  """Finds the pairs of the same label whose boxes overlap. [pairs, 2]."""

  def columns(pieces):
    rows = [
      (
        p.label,
        p.top,
        p.left,
        p.top + p.mask.shape[0],
        p.left + p.mask.shape[1],
      )
      for p in pieces
    ]
    return np.array(rows, np.int64).reshape(-1, 5).T

  label, top, left, bottom, right = (x[:, None] for x in columns(one))
  label_, top_, left_, bottom_, right_ = (x[None] for x in columns(other))
  overlap = (top < bottom_) & (top_ < bottom) & (left < right_)
  return np.argwhere(overlap & (left_ < right) & (label == label_))


def _is_same_object(one: Piece, other: Piece) -> bool:
  top, left = max(one.top, other.top), max(one.left, other.left)

  def window(piece):
    return piece.mask[top - piece.top :, left - piece.left :]

  first, second = window(one), window(other)
  height, width = np.minimum(first.shape, second.shape)
  shared = np.count_nonzero(first[:height, :width] & second[:height, :width])
  return shared > SAME_OBJECT * min(one.area, other.area)
