"""Mosaic: one training image from windows of four.

As in YOLOv4 (https://arxiv.org/abs/2004.10934, section 3.4): a small dataset
gives many more scenes, with other neighbours and more objects. Objects keep
their size; scales are drawn by the earlier transforms.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from solo_jax.data.copy_paste import tight_box
from solo_jax.types import NO_STUFF, CroppedMasks, Sample


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mosaic:
  """Joins windows of an image and of three others.

  Attributes:
    image_size: Filled in by `augmentations.build`.
    probability: Share of the images that become a mosaic.
  """

  image_size: tuple[int, int]
  probability: float

  def __call__(
    self,
    sample: Sample,
    rng: np.random.Generator,
    draw_other: Callable[[], Sample],
  ) -> Sample:
    """Returns the sample, or a mosaic with its image id and file name.

    Args:
      sample: Rendered in its network frame, see `batching.render_sample`.
      rng: Source of all draws.
      draw_other: Returns another such sample.
    """
    if rng.random() >= self.probability:
      return sample
    parts = [sample, *(draw_other() for _ in range(3))]
    centre = np.floor(self.image_size * rng.uniform(0.25, 0.75, 2)).astype(int)
    offsets = [
      _draw_corner(part, quarter, rng)
      for part, quarter in zip(
        parts, quarters(self.image_size, centre), strict=True
      )
    ]
    return join_four(parts, self.image_size, centre, offsets)


def quarters(
  size: tuple[int, int], centre: Sequence[int]
) -> list[tuple[slice, slice]]:
  """Returns rows and columns of the four parts of an image, in reading order.

  Args:
    size: (height, width) in pixels.
    centre: (y, x) of the first pixel of the last part.
  """
  (height, width), (y, x) = size, centre
  return [
    (rows, columns)
    for rows in (slice(0, y), slice(y, height))
    for columns in (slice(0, x), slice(x, width))
  ]


def join_four(
  parts: Sequence[Sample],
  size: tuple[int, int],
  centre: Sequence[int],
  corners: Sequence[tuple[int, int]],
) -> Sample:
  """Returns a sample whose quarters are windows of four.

  Args:
    parts: Rendered in their network frames, in reading order.
    size: (height, width) of the result in pixels.
    centre: (y, x) where the quarters meet.
    corners: First row and column of each part's window. A part that ends
      before its quarter is full touches the centre; the rest is black.

  Returns:
    The sample with identity and file name of the first part and the instances
    of all: cut ones get a new tight box, those outside of the windows are
    removed.
  """
  image = np.zeros((*size, 3), parts[0].image.dtype)
  stuff = np.full(size, NO_STUFF, np.uint8)
  pieces = []
  for number, (part, quarter, corner) in enumerate(
    zip(parts, quarters(size, centre), corners, strict=True)
  ):
    source, target = [], []
    for axis, (room, start) in enumerate(zip(quarter, corner, strict=True)):
      end = min(start + room.stop - room.start, part.image_size[axis])
      source.append(slice(start, end))
      is_before = room.start == 0
      first = room.stop - (end - start) if is_before else room.start
      target.append(slice(first, first + end - start))
    image[tuple(target)] = part.image[tuple(source)]
    if part.stuff is not None:
      stuff[tuple(target)] = part.stuff[tuple(source)]
    shift = [t.start - s.start for t, s in zip(target, source, strict=True)]
    pieces += _cut_instances(number, part, source, shift)

  def gather(name):
    values = [getattr(parts[x.part], name)[x.index] for x in pieces]
    return np.array(values, getattr(parts[0], name).dtype)

  return dataclasses.replace(
    parts[0],
    image=image,
    masks=CroppedMasks(
      size=size,
      corners=[x.corner for x in pieces],
      crops=[x.crop for x in pieces],
    ),
    labels=gather("labels"),
    areas=np.array([x.area for x in pieces], np.float64),
    boxes_xyxy=np.reshape([x.box for x in pieces], (-1, 4)).astype(float),
    is_crowd=gather("is_crowd"),
    annotation_ids=gather("annotation_ids"),
    stuff=stuff if parts[0].stuff is not None else None,
    original_size=size,
    image_size=size,
  )


@dataclasses.dataclass(frozen=True)
class _Piece:
  """What is left of instance `index` of part `part`."""

  part: int
  index: int
  corner: tuple[int, int]
  crop: np.ndarray
  box: Sequence[float]
  area: float


def _cut_instances(
  number: int, part: Sample, window: Sequence[slice], shift: Sequence[int]
) -> list[_Piece]:
  """Returns the instances of a part inside its window, moved by (y, x)."""
  bounds = [w.start for w in window], [w.stop for w in window]
  pieces = []
  for index, crop in enumerate(part.masks.crops):
    first = np.array(part.masks.corners[index])
    begin, end = np.clip((first, first + crop.shape), *bounds)
    (top, left), (bottom, right) = begin - first, end - first
    rest = crop[top:bottom, left:right]
    area = np.count_nonzero(rest)
    if not area:
      continue
    corner = tuple((begin + shift).tolist())
    is_whole = area == np.count_nonzero(crop)
    moved = part.boxes_xyxy[index] + (*shift[::-1], *shift[::-1])
    pieces.append(
      _Piece(
        number,
        index,
        corner,
        rest,
        moved if is_whole else tight_box(rest, *corner),
        part.areas[index] if is_whole else float(area),
      )
    )
  return pieces


def _draw_corner(
  part: Sample, quarter: tuple[slice, slice], rng: np.random.Generator
) -> tuple[int, int]:
  """Returns the corner of a random window as large as a quarter, or less."""
  spare = (
    max(side - (room.stop - room.start), 0)
    for side, room in zip(part.image_size, quarter, strict=True)
  )
  top, left = (int(rng.integers(x, endpoint=True)) for x in spare)
  return top, left
