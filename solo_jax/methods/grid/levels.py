"""Chooses pyramid levels, scale ranges and grids for a set of objects."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Share of the objects that may have no cell in total, and the values tried per
# level: finer grids cost more, and overlapping levels help.
MAX_LOST = 0.01
LEVEL_LOSSES = (0.02, 0.01, 0.005, 0.0025)
GRIDS = (8, 10, 12, 16, 20, 24, 28, 32, 36, 40, 48, 56, 64, 80, 96, 128)
CELLS_PER_OBJECT = 4  # of the largest size of a level


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objects:
  """The objects of one network input, in the order of their annotations.

  Attributes:
    scales: sqrt(w h) of their boxes, network pixels. [n] float.
    centers: Centres of mass (x, y), as shares of width and height. [n, 2]
      float.
    cores: (w, h) of what counts as the centre, the box times
      `loss.center_sigma`, as shares of width and height. [n, 2] float.
  """

  scales: np.ndarray
  centers: np.ndarray
  cores: np.ndarray


Frames = Sequence[Objects]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Levels:
  """One entry per level, as in the sections `network` and `loss` of a config.

  Attributes:
    levels: Pyramid levels.
    strides: Strides of the maps that the grids read.
    num_grids: Cells per side.
    scale_ranges: (low, high) in network pixels.
  """

  levels: tuple[int, ...]
  strides: tuple[int, ...]
  num_grids: tuple[int, ...]
  scale_ranges: tuple[tuple[int, int], ...]


def pick(
  frames: Frames,
  network: Mapping[str, Any],
  image_size: tuple[int, int],
  *,
  is_free: bool,
) -> Levels:
  """Returns levels, scale ranges and grids.

  About one level per doubling of the object size, ranges that overlap by a
  factor of two as published, and on each level the coarsest grid that separates
  its objects and has CELLS_PER_OBJECT cells along the largest of them. Grids
  become finer until at most MAX_LOST of all objects have no cell.

  Args:
    frames: Inputs of the network, with at least one object.
    network: The config's section of this name.
    image_size: (height, width) of the network input.
    is_free: Whether masks do not depend on the levels; if they depend on the
      strides, the first of the given levels are kept.

  Returns:
    The levels.
  """
  scales = np.concatenate([objects.scales for objects in frames])
  low, high = (float(x) for x in np.percentile(scales, (5, 99)))
  count = int(np.clip(round(math.log2(high / low)) - 1, 1, 5))
  if is_free:
    first = int(np.clip(math.floor(math.log2(low / 4)), 2, 6))
    levels = tuple(range(first, min(first + count, 7)))
  else:
    levels = tuple(network["levels"][:count])
  count = len(levels)
  ranges = split_range(
    count,
    low,
    high,
    least=min(1, int(scales.min())),
    most=math.ceil(max(image_size) / 256) * 256,
  )
  short_side = min(image_size)
  options = [
    _grid_options(level, short_side, min(scale_range[1], high))
    for level, scale_range in zip(levels, ranges, strict=True)
  ]
  for level_loss in LEVEL_LOSSES:
    grids = tuple(
      _coarsest(frames, scale_range, sizes, level_loss)
      for scale_range, sizes in zip(ranges, options, strict=True)
    )
    if lost_share(frames, ranges, grids) <= MAX_LOST:
      break
  strides = tuple(network["strides"][:count])
  if is_free:  # as published, 8 for P2 and 32 for P6, where the grid allows it
    strides = tuple(
      8 if level == 2 and s <= short_side // 8 else min(2**level, 32)
      for level, s in zip(levels, grids, strict=True)
    )
  return Levels(
    levels=levels,
    strides=strides,
    num_grids=grids,
    scale_ranges=ranges,
  )


def _grid_options(level: int, short_side: int, largest: float) -> list[int]:
  """Returns possible grids, up to one cell per map pixel; at least one."""
  options = [s for s in GRIDS if s <= max(short_side // 2**level, GRIDS[0])]
  coarsest = CELLS_PER_OBJECT * short_side / largest
  return [s for s in options if s >= coarsest] or options[-1:]


def _coarsest(frames, scale_range, options, loss):
  """Returns the coarsest grid of a level that loses no more than `loss`."""
  good = (s for s in options if grid_loss(frames, scale_range, s) <= loss)
  return next(good, options[-1])


def split_range(
  count: int, low: float, high: float, *, least: int, most: int
) -> tuple[tuple[int, int], ...]:
  """Returns ranges of equal ratio that overlap by a factor of two.

  Args:
    count: Number of ranges.
    low: Size of small objects.
    high: Size of large objects.
    least: Start of the first range.
    most: End of the last range.

  Returns:
    (low, high) of each, increasing.
  """
  bounds = low * (high / low) ** (np.arange(1, count) / count)
  lows = [least, *np.floor(bounds / math.sqrt(2))]
  highs = [*np.ceil(bounds * math.sqrt(2)), most]
  return tuple((int(a), int(b)) for a, b in zip(lows, highs, strict=True))


def lost_share(
  frames: Frames,
  scale_ranges: Sequence[tuple[float, float]],
  num_grids: Sequence[int],
) -> float:
  """Returns the share of objects that have no cell on any level.

  Args:
    frames: Inputs of the network.
    scale_ranges: Scale ranges of each level.
    num_grids: Cells per side of each level.

  Returns:
    Share of the objects, including those in no range, in [0, 1].
  """
  total = lost = 0
  for objects in frames:
    keeps = np.zeros(len(objects.scales), bool)
    for scale_range, num_grid in zip(scale_ranges, num_grids, strict=True):
      _, owners = assign(objects, scale_range, num_grid)
      keeps[owners] = True
    total += len(keeps)
    lost += int(np.sum(~keeps))
  return lost / max(total, 1)


def grid_loss(
  frames: Frames, scale_range: tuple[float, float], num_grid: int
) -> float:
  """Returns the share of a level's objects that have no cell on it.

  Args:
    frames: Inputs of the network.
    scale_range: Scale range of the level.
    num_grid: Cells per side of the level.

  Returns:
    Share of the objects in the range, in [0, 1].
  """
  total = kept = 0
  for objects in frames:
    in_range, owners = assign(objects, scale_range, num_grid)
    total += len(in_range)
    kept += len(owners)
  return (total - kept) / max(total, 1)


def assign(
  objects: Objects, scale_range: tuple[float, float], num_grid: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the cells of one level, assigned as `targets.assign_cells` does.

  In NumPy, so that trying many grids needs no compilation for each.

  Args:
    objects: Objects of one input.
    scale_range: Scale range of the level.
    num_grid: Cells per side of the level.

  Returns:
    The objects in the range, and those that keep a cell. [m] int each.
  """
  low, high = scale_range
  in_range = np.flatnonzero((objects.scales >= low) & (objects.scales <= high))
  half = objects.cores / 2
  center = np.floor(objects.centers * num_grid).astype(int)
  first = np.floor((objects.centers - half) * num_grid).astype(int)
  last = np.floor((objects.centers + half) * num_grid).astype(int)
  first = np.maximum(np.maximum(first, center - 1), 0)
  last = np.minimum(np.minimum(last, center + 1), num_grid - 1)
  owner = np.full((num_grid, num_grid), -1)
  for i in in_range:  # the later of two claims wins
    left, top = first[i]
    right, bottom = last[i]
    owner[top : bottom + 1, left : right + 1] = i
  owners = np.unique(owner)
  return in_range, owners[owners >= 0]
