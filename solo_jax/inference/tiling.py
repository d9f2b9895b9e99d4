"""Cuts large images into overlapping tiles and joins their detections.

A grid method has a fixed number of cells whatever the size of its input, so an
image with hundreds of small objects is processed tile by tile. An object that
fits into the overlap is complete in at least one tile: its detections replace
those cut by a seam, and duplicates from neighbouring tiles are removed.
"""

import bisect
import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from solo_jax import types
from solo_jax.data import transforms
from solo_jax.inference.stage_clock import StageClock

# Two detections of neighbouring tiles are the same object if they share more
# than this part of the smaller one.
SAME_OBJECT = 0.5


def tile_origins(
  size: tuple[int, int], tile_size: int, overlap: int
) -> list[tuple[int, int]]:
  """Returns evenly spaced square tiles; neighbours share at least `overlap`.

  Args:
    size: (height, width) of the image.
    tile_size: Side of a tile in pixels.
    overlap: Smallest number of pixels that neighbouring tiles share.

  Returns:
    (top, left) of each tile, row by row; one tile at (0, 0) for an image that
    is not larger than a tile.

  Examples:
    >>> tile_origins((256, 600), tile_size=256, overlap=64)
    [(0, 0), (0, 172), (0, 344)]
  """

  def starts(length):
    step = tile_size - overlap
    count = max(1, -(-(length - overlap) // step))
    return np.round(np.linspace(0, max(length - tile_size, 0), count))

  return [(int(y), int(x)) for y in starts(size[0]) for x in starts(size[1])]


def detect_tiled(
  images: Iterable[np.ndarray],
  detect: Callable[
    [Iterable[np.ndarray]], Iterator[tuple[int, types.Instances]]
  ],
  *,
  tile_size: int,
  overlap: int,
  clock: StageClock,
) -> Iterator[tuple[int, types.Instances]]:
  """Yields the instances of images that are read in tiles.

  Tiles are processed like images; an image is joined when its last tile is
  finished.

  Args:
    images: Images of any size and kind that a Predictor takes.
    detect: Tiles -> (position of a tile among them, its Instances), in any
      order.
    tile_size: Side of a tile in pixels.
    overlap: Smallest number of pixels that neighbouring tiles share.
    clock: Measures the time of joining.

  Yields:
    (position of the image in `images`, its Instances).
  """
  parts = {}  # position of a tile in the stream -> its image and row there
  count = itertools.count()
  tiles_of = {}  # image -> (origins, size, pieces found so far)

  def cut():
    for index, image in enumerate(images):
      # 16 bits are converted to 8 by the contrast of the whole image, not of a
      # tile.
      image = transforms.to_uint8(transforms.to_rgb(image))
      size = image.shape[:2]
      origins = tile_origins(size, tile_size, overlap)
      tiles_of[index] = origins, size, [None] * len(origins)
      for row, (top, left) in enumerate(origins):
        parts[next(count)] = index, row
        yield image[top : top + tile_size, left : left + tile_size]

  for part, found in detect(cut()):
    index, row = parts.pop(part)
    origins, size, tiles = tiles_of[index]
    with clock("masks"):
      tiles[row] = cut_out(found, origins[row], size)
    if all(tile is not None for tile in tiles):
      del tiles_of[index]
      with clock("masks"):
        merged = merge_tiles(
          tiles,
          origins,
          tile_size,
          size,
          has_predicted_boxes=found.has_predicted_boxes,
        )
      yield index, merged


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
  """A detection of a tile, with its mask cropped to its box.

  Attributes:
    is_cut: Whether a seam cuts it: it touches an edge of the tile that is not
      an edge of the image.
    score: In [0, 1].
    label: 0..K-1.
    top: First row in the whole image.
    left: First column in the whole image.
    mask: [h, w] bool.
    area: Pixels of the mask.
    predicted_box: (left, top, right, bottom) in the whole image; None if the
      method predicts only masks.
  """

  is_cut: bool
  score: float
  label: int
  top: int
  left: int
  mask: np.ndarray
  area: int
  predicted_box: tuple[float, float, float, float] | None = None

  @property
  def tight_box(self) -> tuple[int, int, int, int]:
    """Returns (left, top, right, bottom) of the mask in the whole image."""
    height, width = self.mask.shape
    return self.left, self.top, self.left + width, self.top + height


def cut_out(
  found: types.Instances, origin: tuple[int, int], size: tuple[int, int]
) -> list[Piece]:
  """Returns the detections of a tile, cut out of its dense masks.

  Args:
    found: Detections at the tile's size.
    origin: (top, left) of the tile.
    size: (height, width) of the whole image.

  Returns:
    One piece per detection with a mask that is not empty.
  """
  pieces = []
  for i, (mask, box) in enumerate(
    zip(found.masks, found.tight_boxes_xyxy, strict=True)
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
        score=float(found.scores[i]),
        label=int(found.labels[i]),
        top=top + origin[0],
        left=left + origin[1],
        mask=inside,
        area=int(np.count_nonzero(inside)),
        predicted_box=tuple(
          (found.boxes_xyxy[i] + np.float32(origin[::-1] * 2)).tolist()
        )
        if found.has_predicted_boxes
        else None,
      )
    )
  return pieces


def merge_tiles(
  tiles: Sequence[Sequence[Piece]],
  origins: Sequence[tuple[int, int]],
  tile_size: int,
  size: tuple[int, int],
  *,
  has_predicted_boxes: bool,
) -> types.Instances:
  """Returns the joined detections of all tiles of an image.

  Memory and time depend on the detections, not on the image: masks stay
  cropped, and only those of tiles that share pixels are compared.

  Args:
    tiles: Pieces of each tile.
    origins: (top, left) of each tile.
    tile_size: Side of a tile in pixels.
    size: (height, width) of the whole image.
    has_predicted_boxes: Whether the method predicts boxes, which is unknown for
      an image without detections.

  Returns:
    Detections of the whole image by decreasing score, with CroppedMasks.
    Detections cut by a seam are kept only if no other tile has the object.
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
  tight = _to_boxes([p.tight_box for p in kept])
  return types.Instances(
    masks=types.CroppedMasks(
      size=size,
      corners=[(p.top, p.left) for p in kept],
      crops=[p.mask for p in kept],
    ),
    scores=np.array([p.score for p in kept], np.float32),
    labels=np.array([p.label for p in kept], np.int32),
    boxes_xyxy=_to_boxes([p.predicted_box for p in kept])
    if has_predicted_boxes
    else tight,
    mask_boxes_xyxy=tight if has_predicted_boxes else None,
  )


def _to_boxes(boxes: Sequence[Sequence[float]]) -> np.ndarray:
  return np.array(boxes, np.float32).reshape(-1, 4)


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
  """Returns the pairs of equal label whose boxes overlap. [pairs, 2]."""

  def columns(pieces):
    rows = [(p.label, *p.tight_box) for p in pieces]
    return np.array(rows, np.int64).reshape(-1, 5).T

  label, left, top, right, bottom = (x[:, None] for x in columns(one))
  label_, left_, top_, right_, bottom_ = (x[None] for x in columns(other))
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
