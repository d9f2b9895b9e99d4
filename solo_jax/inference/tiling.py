"""Cutting an image larger than the network's field into overlapping tiles.

A grid method sees a fixed number of cells whatever the size of its input, so
an image with hundreds of small objects is read tile by tile. An object that
fits into the overlap lies whole in at least one tile: detections cut by a seam
give way to those, and what neighbours found twice is kept once.
"""

import dataclasses

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


@dataclasses.dataclass(frozen=True)
class _Piece:
  """A detection as a mask inside its box, in coordinates of the whole image."""

  tile: int
  is_cut: bool
  score: float
  label: int
  top: int
  left: int
  mask: np.ndarray

  @property
  def bottom(self) -> int:
    return self.top + self.mask.shape[0]

  @property
  def right(self) -> int:
    return self.left + self.mask.shape[1]


def merge_tiles(
  tiles: list[types.Instances],
  origins: list[tuple[int, int]],
  size: tuple[int, int],
) -> types.Instances:
  """Joins the detections of all tiles of an image.

  Args:
    tiles: Detections of each tile at the tile's size.
    origins: (top, left) of each tile.
    size: (height, width) of the whole image.

  Returns:
    Detections of the whole image by falling score. Detections that a seam
    cuts are kept only where no other tile has the object.
  """
  pieces = [
    piece
    for index, (found, origin) in enumerate(zip(tiles, origins, strict=True))
    for piece in _pieces(found, index, origin, size)
  ]
  kept: list[_Piece] = []
  for piece in sorted(pieces, key=lambda p: (p.is_cut, -p.score)):
    if not any(_is_same_object(piece, other) for other in kept):
      kept.append(piece)
  kept.sort(key=lambda p: -p.score)
  masks = np.zeros((len(kept), size[1], size[0]), bool).transpose(0, 2, 1)
  boxes = np.zeros((len(kept), 4), np.float32)
  for row, piece in enumerate(kept):
    masks[row, piece.top : piece.bottom, piece.left : piece.right] = piece.mask
    boxes[row] = piece.left, piece.top, piece.right, piece.bottom
  return types.Instances(
    masks=masks,
    scores=np.array([p.score for p in kept], np.float32),
    labels=np.array([p.label for p in kept], np.int32),
    boxes_xyxy=boxes,
  )


def _pieces(found, index, origin, size):
  for mask, score, label, box in zip(
    found.masks, found.scores, found.labels, found.boxes_xyxy, strict=True
  ):
    left, top, right, bottom = (int(v) for v in box)
    if right <= left or bottom <= top:
      continue  # an empty mask
    height, width = mask.shape
    # An edge of the tile is a seam unless it is an edge of the image.
    is_cut = (
      (top == 0 and origin[0] > 0)
      or (left == 0 and origin[1] > 0)
      or (bottom == height and origin[0] + height < size[0])
      or (right == width and origin[1] + width < size[1])
    )
    yield _Piece(
      tile=index,
      is_cut=bool(is_cut),
      score=float(score),
      label=int(label),
      top=top + origin[0],
      left=left + origin[1],
      mask=np.ascontiguousarray(mask[top:bottom, left:right]),
    )


def _is_same_object(one: _Piece, other: _Piece) -> bool:
  if one.tile == other.tile or one.label != other.label:
    return False
  top, bottom = max(one.top, other.top), min(one.bottom, other.bottom)
  left, right = max(one.left, other.left), min(one.right, other.right)
  if top >= bottom or left >= right:
    return False

  def window(piece):
    rows = slice(top - piece.top, bottom - piece.top)
    return piece.mask[rows, left - piece.left : right - piece.left]

  shared = np.count_nonzero(window(one) & window(other))
  smaller = min(np.count_nonzero(one.mask), np.count_nonzero(other.mask))
  return shared > SAME_OBJECT * smaller
