"""Chooses input size and tiles by the sizes of images and objects."""

import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from solo_jax.inference.preparation import Preparation
from solo_jax.inspection.statistics import Statistics
from solo_jax.inspection.suggested_config import Suggestion

# Network pixels that the tenth smallest and the median of 100 objects need:
# two and four cells of a stride-4 map.
SMALL_SIZE, TYPICAL_SIZE = 8.0, 16.0
MAX_ENLARGING = 2.0
# Enlarging images beyond this multiple of the need is wasted work.
WASTEFUL = 2.5
# Number of instances per image (95th percentile) from which tiles pay off, and
# the long side from which an image is too large for the network.
CROWDED, MAX_LONG_SIDE = 60, 1600
MIN_TILE, MAX_TILE = 256, 1024
# The network's strides need multiples of 32. Coarser multiples give fewer
# padded shapes, each of which is compiled once, at up to this factor of pixels.
MULTIPLES = (32, 64, 128, 256)
MAX_PADDING = 1.15


@dataclasses.dataclass(frozen=True, kw_only=True)
class Padding:
  """The effect of a padding multiple on the images of a split.

  Attributes:
    multiple: The multiple.
    num_shapes: Number of different padded shapes.
    pixels: Mean of the padded pixels per image.
  """

  multiple: int
  num_shapes: int
  pixels: float


def measure_padding(rule: Mapping[str, Any], statistics: Statistics) -> Padding:
  """Returns the shapes and pixels that whole images are padded to.

  Args:
    rule: A config's `preprocessing` without tiles.
    statistics: Statistics of the split.

  Returns:
    The counts.
  """
  prepare = Preparation(dict(rule), (1.0,))
  sizes = zip(
    statistics.heights.tolist(), statistics.widths.tolist(), strict=True
  )
  shapes = collections.Counter()
  for size, number in collections.Counter(sizes).items():
    shapes[prepare.padded_size(size)] += number
  return Padding(
    multiple=rule["pad_multiple"],
    num_shapes=len(shapes),
    pixels=sum(h * w * n for (h, w), n in shapes.items())
    / statistics.num_images,
  )


def input_scale(rule: Mapping[str, Any], statistics: Statistics) -> float:
  """Returns the scale at which the network sees an image.

  Args:
    rule: short_side, max_side, keep_aspect and tile_size of a config's
      `preprocessing`.
    statistics: Statistics of the training split.

  Returns:
    Network pixels per image pixel, for the median image.
  """
  if rule["tile_size"] is not None:
    return min(rule["short_side"], rule["max_side"]) / rule["tile_size"]
  if not rule["keep_aspect"]:
    areas = statistics.short_sides * statistics.long_sides
    return float(np.median(rule["short_side"] / np.sqrt(areas)))
  scales = np.minimum(
    rule["short_side"] / statistics.short_sides,
    rule["max_side"] / statistics.long_sides,
  )
  return float(np.median(scales))


def choose_input(made: Suggestion, statistics: Statistics) -> None:
  """Chooses input size and tiles.

  Args:
    made: The suggestion; changes `transforms`, `preprocessing`, `dataset`.
    statistics: Statistics of the training split.
  """
  rule = made.config["preprocessing"]
  small, typical = map(float, np.percentile(statistics.object_sizes, (10, 50)))
  needed = min(max(SMALL_SIZE / small, TYPICAL_SIZE / typical), MAX_ENLARGING)
  needed = round(4 * needed) / 4 or needed  # in quarters
  scale = wanted = input_scale(rule, statistics)
  if scale < needed:
    wanted = needed
  elif scale > WASTEFUL * max(needed, 1):
    wanted = max(needed, 1)
  why = (
    f"{wanted:.3g} network pixels per image pixel, was {scale:.3g}: objects "
    f"of {small:.0f} (10th percentile) and {typical:.0f} px (median)"
  )
  extent = float(np.percentile(statistics.object_extents, 99))
  tile = min(max(_round_up(3 * extent), MIN_TILE), MAX_TILE)
  long_side = np.percentile(statistics.long_sides, 95)
  per_image = np.percentile(statistics.instances_per_image, 95)
  is_large = long_side * wanted > MAX_LONG_SIDE
  is_crowded = per_image > CROWDED and long_side > 1.25 * tile
  if rule["tile_size"] is None and (is_large or is_crowded):
    reason = (
      f"{per_image:.0f} instances per image (95th percentile)"
      if is_crowded
      else f"long sides of {long_side:.0f} px (95th percentile)"
    )
    _set_tiles(made, tile, wanted, extent, reason)
  elif wanted != scale and rule["tile_size"] is not None:
    _set_tiles(made, rule["tile_size"], wanted, extent, why)
  elif rule["tile_size"] is None:
    if wanted != scale:
      _set_whole(made, statistics, wanted, why)
    if rule["keep_aspect"]:
      choose_padding(made, statistics)


def choose_padding(made: Suggestion, statistics: Statistics) -> None:
  """Chooses the multiple that whole images are padded to.

  Args:
    made: The suggestion; changes `preprocessing`.
    statistics: Statistics of the training split.
  """
  rule = made.config["preprocessing"]
  own = measure_padding(rule, statistics)
  options = [
    measure_padding(rule | dict(pad_multiple=multiple), statistics)
    for multiple in MULTIPLES
  ]
  least = min(option.pixels for option in options)
  chosen = min(
    (x for x in options if x.pixels <= MAX_PADDING * least),
    key=lambda x: (x.num_shapes, x.pixels),
  )
  if own.pixels <= MAX_PADDING * least and own.num_shapes <= chosen.num_shapes:
    return
  what = "shape" if chosen.num_shapes == 1 else "shapes"
  made.set(
    "preprocessing.pad_multiple",
    chosen.multiple,
    f"{chosen.num_shapes} padded {what}, each compiled once ({own.multiple}: "
    f"{own.num_shapes}); {chosen.pixels / least:.2f} x the pixels of the "
    f"tightest padding ({own.multiple}: {own.pixels / least:.2f})",
  )


def _set_tiles(made, tile, scale, extent, reason):
  side = _round_up(tile * scale)
  overlap = min(_round_up(extent), tile // 2)
  made.set("preprocessing.tile_size", tile, reason)
  made.set(
    "preprocessing.tile_overlap",
    overlap,
    f"99 of 100 objects are at most {extent:.0f} px long",
  )
  for field in ("short_side", "max_side", "pad_multiple"):
    made.set(f"preprocessing.{field}", side, "a whole tile")
  made.set("preprocessing.keep_aspect", True, "tiles keep it")
  made.set("transforms.image_size", (side, side), "a whole tile")
  jitter = "scale_jitter", _jitter(scale)
  stages = tuple(
    jitter if stage[0] in ("resize_short_side", "scale_jitter") else stage
    for stage in made.config["transforms"]["augment"]
  )
  reason = "crops at about the scale of the tiles"
  made.set("transforms.augment", stages, reason)
  made.set("dataset.group_by_orientation", False, "the input is square")


def _set_whole(made, statistics, scale, reason):
  short = _round_up(scale * np.median(statistics.short_sides))
  long = _round_up(scale * np.percentile(statistics.long_sides, 95))
  if not made.config["preprocessing"]["keep_aspect"]:
    sides = np.sqrt(statistics.short_sides * statistics.long_sides)
    short = long = _round_up(scale * np.median(sides))
  size = (short, max(short, long))
  made.set("preprocessing.short_side", short, reason)
  made.set("preprocessing.max_side", size[1], reason)
  made.set("transforms.image_size", size, reason)
  stages = []
  for name, settings in made.config["transforms"]["augment"]:
    if name == "resize_short_side":
      settings = dict(short_sides=(short,), max_side=size[1])
    elif settings.get("reference") == "original":
      settings = _jitter(scale)
    stages.append((name, settings))
  made.set("transforms.augment", tuple(stages), reason)
  is_portrait = statistics.num_portrait > 0.05 * statistics.num_images
  made.set(
    "dataset.group_by_orientation",
    is_portrait and size[1] > 1.2 * short,
    f"{statistics.num_portrait} of {statistics.num_images} images are higher "
    "than wide; the training step is compiled for both shapes",
  )


def _jitter(scale):
  """Returns jitter of the original size to about the scale of prediction."""
  factor = round(0.7 * scale, 2), round(1.4 * scale, 2)
  return dict(factor=factor, reference="original")


def _round_up(value: float) -> int:
  """Returns a side that the network's strides divide."""
  return max(32, math.ceil(value / 32 - 1e-6) * 32)
