"""What becomes of the instances of a frame when it is turned into targets.

Shape letters: N instances (padded), n: the valid ones, L levels, G cells over
all levels.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax import types
from solo_jax.data import mask_targets
from solo_jax.data.batching import reaches_frame
from solo_jax.data.transforms import split_axes
from solo_jax.inspection.frames import Frame, make_example, training_frame
from solo_jax.inspection.oracle_outputs import assign, owners
from solo_jax.inspection.selection import Selection
from solo_jax.methods.associative_embedding.network import AssociativeEmbedding
from solo_jax.methods.associative_embedding.targets import make_targets
from solo_jax.methods.grid.network import GridNetwork

# Ways to get lost, in the order in which they strike, and their meaning.
TOO_SMALL, TOO_MANY = "too small", "beyond max_instances"
NO_LEVEL, NO_CELL = "no level", "no cell left"
TOO_MANY_PAIRS = "beyond max_positives"
NO_PIXELS, SAME_CENTER = "too few pixels", "same centre"
TOO_MANY_FOUND = "beyond max_detections"
MEANING = {
  TOO_SMALL: "visible area below transforms.min_mask_area: not trained",
  TOO_MANY: "more than transforms.max_instances: not trained",
  NO_LEVEL: "size outside every range of loss.scale_ranges: no cell",
  NO_CELL: "every cell taken by a later instance: the grid is too coarse",
  TOO_MANY_PAIRS: "its cells are beyond loss.max_positives: not trained",
  NO_PIXELS: "fewer map pixels of its own than decode.min_pixels: no group",
  SAME_CENTER: "centre within a map pixel of another's: the same vote",
  TOO_MANY_FOUND: "more than decode.max_detections: not reported",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fates:
  """The instances of one frame, crowds and what is out of sight left aside.

  Attributes:
    num_visible: Instances of which something is visible.
    lost: How many got lost, by the way they did, see MEANING.
    rows: The way that each valid instance of the example got lost, '' for one
      that did not. [n] str.
    num_shared: Instances that keep some, not all, of their cells.
    num_positives: Pairs of cell and instance.
    map_pixels: Pixels of the network's map that each valid instance owns; empty
      where a method predicts on grids. [n] int32.
    scales: sqrt(w h) of the boxes in network pixels. [n] float32.
    boxes_xyxy: Boxes in network pixels. [n, 4] float32.
    centers: Centres of mass (x, y), pixel index. [n, 2] float32.
    padded_size: (H, W) of the frame.
  """

  num_visible: int
  lost: dict[str, int]
  rows: np.ndarray
  num_shared: int
  num_positives: int
  map_pixels: np.ndarray
  scales: np.ndarray
  boxes_xyxy: np.ndarray
  centers: np.ndarray
  padded_size: tuple[int, int]


def make_judge(
  network: GridNetwork | AssociativeEmbedding,
  loss: Mapping[str, Any],
  decode: Mapping[str, Any],
) -> Callable[[types.Batch], dict[str, jax.Array]]:
  """Makes the function that judges the instances of a batch on the device.

  Args:
    network: A network of `methods`.
    loss: The `loss` section of a config.
    decode: The `decode` section of a config.

  Returns:
    Jitted; a batch of one image -> for each way to get lost, who does, [N]
    bool; and of each instance the cells that are claimed for it, 'pairs', and
    those it keeps, 'owned', or its 'map_pixels', [N] int32.
  """
  if isinstance(network, AssociativeEmbedding):
    return jax.jit(lambda batch: _judge_pixels(network, batch, decode))
  return jax.jit(lambda batch: _judge_cells(network, batch, loss))


def _judge_cells(network, batch, loss):
  """Finds who has no level, no cell or no place, of one image."""
  num_instances = batch.valid.shape[1]
  sizes = batch.boxes_xyxy[0, :, 2:] - batch.boxes_xyxy[0, :, :2]
  scale = jnp.sqrt(jnp.prod(jnp.maximum(sizes, 0.0), axis=1))[:, None]
  low, high = jnp.array(loss["scale_ranges"], jnp.float32).T
  has_level = jnp.any((scale >= low) & (scale <= high), axis=1)
  everything = dict(
    max_positives=num_instances * len(network.num_grids) * 9,
    shared_cells="all",
  )
  claimed, kept = jax.tree.map(
    lambda x: x[0],
    (assign(network, batch, loss, **everything), assign(network, batch, loss)),
  )
  owner, _ = owners(
    claimed, sum(s * s for s in network.num_grids), num_instances
  )

  def count(where, instance):
    return jnp.zeros(num_instances, jnp.int32).at[instance].add(where)

  is_owner = claimed.valid & (owner[claimed.cell] == claimed.instance)
  pairs = count(claimed.valid, claimed.instance)
  owned = count(is_owner, claimed.instance)
  return {
    NO_LEVEL: ~has_level,
    NO_CELL: has_level & (owned == 0),
    TOO_MANY_PAIRS: (owned > 0) & (count(kept.valid, kept.instance) == 0),
    "pairs": pairs,
    "owned": owned,
  }


def _judge_pixels(network, batch, decode):
  """Finds who has too few pixels or the centre of another, of one image."""
  height, width = (n // network.mask_stride for n in batch.image.shape[1:3])
  targets = make_targets(batch, (height, width))
  is_grouped = targets.foreground[0] >= decode["foreground_threshold"]
  num_pixels = jnp.zeros(batch.valid.shape[1], jnp.int32)
  num_pixels = num_pixels.at[targets.owner[0]].add(is_grouped)
  too_few = num_pixels < decode["min_pixels"]
  same = jnp.zeros_like(too_few)
  if network.embedding == "spatial":
    centers = batch.centers[0]
    distance = jnp.linalg.norm(centers[:, None] - centers[None], axis=-1)
    close = (distance < network.mask_stride) & batch.valid[0][None]
    same = jnp.any(jnp.tril(close & ~too_few[None], k=-1), axis=1)
  return {
    NO_PIXELS: too_few,
    SAME_CENTER: same & ~too_few,
    "map_pixels": num_pixels,
  }


def judge_frame(
  frame: Frame,
  example: Mapping[str, np.ndarray],
  judge: Callable[[types.Batch], dict[str, jax.Array]],
  *,
  min_mask_area: float,
  max_detections: int | None = None,
) -> Fates:
  """Says what becomes of the instances of a frame.

  Args:
    frame: The frame.
    example: Made of it by `frames.make_example`.
    judge: From `make_judge`.
    min_mask_area: `transforms.min_mask_area` of the config.
    max_detections: `decode.max_detections` where the frame is for inference.

  Returns:
    The fates.
  """
  valid = example["valid"]
  num_valid = int(valid.sum())
  verdict = jax.device_get(judge(to_batch(example)))
  none = np.zeros(0, np.int32)
  owned, pairs, map_pixels = (
    verdict.pop(key)[valid] if key in verdict else none
    for key in ("owned", "pairs", "map_pixels")
  )
  rows = np.full(num_valid, "", object)
  for name, is_lost in verdict.items():
    rows[is_lost[valid]] = name
  lost = {name: int(np.sum(rows == name)) for name in verdict}
  areas = visible_areas(frame.sample)
  lost |= {
    TOO_SMALL: int(np.sum(areas < min_mask_area)),
    TOO_MANY: int(example["num_dropped"]),
  }
  if max_detections is not None:
    found = int(np.sum(rows == ""))
    lost[TOO_MANY_FOUND] = max(0, found - max_detections)
  boxes = example["boxes_xyxy"][valid]
  return Fates(
    num_visible=len(areas),
    lost={name: lost[name] for name in MEANING if name in lost},
    rows=rows,
    num_shared=int(np.sum((owned > 0) & (owned < pairs))),
    num_positives=int(pairs.sum()),
    map_pixels=map_pixels,
    scales=np.sqrt((boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)),
    boxes_xyxy=boxes,
    centers=example["centers"][valid],
    padded_size=frame.padded_size,
  )


def visible_areas(sample: types.Sample) -> np.ndarray:
  """Measures what a frame shows of each instance that is no crowd.

  Args:
    sample: Of a frame.

  Returns:
    Areas in network pixels, without instances that are out of sight. [number]
    float64.
  """
  is_transposed, y, x = split_axes(sample)
  areas = []
  is_wanted = ~sample.is_crowd & reaches_frame(sample, y, x)
  for index in np.flatnonzero(is_wanted):
    mask = sample.masks[index].view(np.uint8)
    visible = mask_targets.find_visible(mask.T if is_transposed else mask, y, x)
    if visible is not None:
      areas.append(visible.area)
  return np.array(areas)


def to_batch(example: Mapping[str, np.ndarray]) -> types.Batch:
  """Makes a batch of one example."""
  return types.Batch(**{name: value[None] for name, value in example.items()})


def merge(fates: list[Fates]) -> dict[str, Any]:
  """Adds up the fates of many frames.

  Args:
    fates: At least one.

  Returns:
    instances: How many were visible; `lost` by the way; `shared`; and the most
    of a frame of `most_instances` and `most_positives`; `map_pixels` of all.
  """
  return dict(
    frames=len(fates),
    instances=sum(f.num_visible for f in fates),
    lost={k: sum(f.lost[k] for f in fates) for k in fates[0].lost},
    shared=sum(f.num_shared for f in fates),
    most_instances=max(f.num_visible for f in fates),
    most_positives=max(f.num_positives for f in fates),
    map_pixels=np.concatenate([f.map_pixels for f in fates]),
  )


def training_fates(
  selection: Selection,
  network: GridNetwork | AssociativeEmbedding,
  *,
  transforms: Mapping[str, Any],
  loss: Mapping[str, Any],
  decode: Mapping[str, Any],
  group_by_orientation: bool,
  seed: int,
  on_image: Callable[[], None],
) -> list[Fates]:
  """Judges one training augmentation of each image.

  Args:
    selection: Images to use.
    network: A network of `methods`.
    transforms: The config's section of this name.
    loss: The config's section of this name.
    decode: The config's section of this name.
    group_by_orientation: `dataset.group_by_orientation` of the config.
    seed: Of the augmentation.
    on_image: Called after each image.

  Returns:
    The fates of each image's frame.
  """
  judge = make_judge(network, loss, decode)
  rng = np.random.default_rng(seed)
  fates = []
  for sample in selection.samples():
    frame = training_frame(
      sample, rng, transforms, group_by_orientation=group_by_orientation
    )
    example = make_example(frame, transforms)
    fates.append(
      judge_frame(
        frame, example, judge, min_mask_area=transforms["min_mask_area"]
      )
    )
    on_image()
  return fates
