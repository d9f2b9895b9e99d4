"""Counts the instances of a frame that are lost when targets are made.

Shape letters: N instances (padded), n: the valid ones.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from solo_jax import types
from solo_jax.data.batching import reaches_frame, visible_part
from solo_jax.data.transforms import split_axes
from solo_jax.inspection.frames import Frame, make_example, training_frame
from solo_jax.inspection.selection import Selection
from solo_jax.methods.interface import Capacity, LostInstances, Method, Way

# Ways to get lost before and after the method's own ways.
TOO_SMALL = Way(
  "too small", "visible area below transforms.min_mask_area: not trained"
)
TOO_MANY = Way(
  "beyond max_instances", "more than transforms.max_instances: not trained"
)
TOO_MANY_FOUND = Way(
  "beyond max_detections", "more than decode.max_detections: not reported"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fates:
  """The visible instances of one frame, without crowds.

  Attributes:
    num_visible: Instances of which something is visible.
    lost: Number of lost instances by way, in the order in which the ways apply.
    rows: How each valid instance of the example was lost, '' if it was not. [n]
      str.
    num_reduced: Number of instances trained on only a part, by description.
    taken: How much of each capacity all instances take.
    sizes: Remaining size of each valid instance, by name. [n] int32 each.
    scales: sqrt(w h) of the boxes in network pixels. [n] float32.
    boxes_xyxy: Boxes in network pixels. [n, 4] float32.
    centers: Centres of mass (x, y), pixel index. [n, 2] float32.
    padded_size: (H, W) of the frame.
  """

  num_visible: int
  lost: dict[Way, int]
  rows: np.ndarray
  num_reduced: dict[str, int]
  taken: dict[Capacity, int]
  sizes: dict[str, np.ndarray]
  scales: np.ndarray
  boxes_xyxy: np.ndarray
  centers: np.ndarray
  padded_size: tuple[int, int]


def make_judge(method: Method) -> Callable[[types.Batch], LostInstances]:
  """Returns `Method.lost_instances`, jitted.

  Args:
    method: One without `lost_instances` is assumed to lose none by itself.
  """
  if method.lost_instances is None:
    return lambda batch: LostInstances(ways=(), is_lost=())
  return jax.jit(method.lost_instances)


def judge_frame(
  frame: Frame,
  example: Mapping[str, Any],
  judge: Callable[[types.Batch], LostInstances],
  *,
  min_mask_area: float,
  max_detections: int | None = None,
) -> Fates:
  """Returns what happens to each instance of a frame.

  Args:
    frame: The frame.
    example: The result of `frames.make_example` for it.
    judge: From `make_judge`.
    min_mask_area: `transforms.min_mask_area` of the config.
    max_detections: `decode.max_detections` if the frame is for inference.

  Returns:
    The fates.
  """
  valid = example["valid"]
  num_valid = int(valid.sum())
  verdict = jax.device_get(judge(to_batch(example)))
  rows = np.full(num_valid, "", object)
  for way, is_lost in zip(verdict.ways, verdict.is_lost, strict=True):
    rows[is_lost[valid]] = way.name
  areas = visible_areas(frame.sample)
  lost = {
    TOO_SMALL: int(np.sum(areas < min_mask_area)),
    TOO_MANY: int(example["num_dropped"]),
    **{way: int(np.sum(rows == way.name)) for way in verdict.ways},
  }
  if max_detections is not None:
    found = int(np.sum(rows == ""))
    lost[TOO_MANY_FOUND] = max(0, found - max_detections)
  boxes = example["boxes_xyxy"][valid]
  return Fates(
    num_visible=len(areas),
    lost=lost,
    rows=rows,
    num_reduced={
      words: int(np.sum(is_reduced[valid]))
      for words, is_reduced in verdict.is_reduced.items()
    },
    taken={
      capacity: int(taken[valid].sum())
      for capacity, taken in zip(verdict.capacities, verdict.taken, strict=True)
    },
    sizes={name: sizes[valid] for name, sizes in verdict.sizes.items()},
    scales=np.sqrt((boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)),
    boxes_xyxy=boxes,
    centers=example["centers"][valid],
    padded_size=frame.padded_size,
  )


def visible_areas(sample: types.Sample) -> np.ndarray:
  """Returns the visible area of each instance that is not a crowd.

  Args:
    sample: Sample of a frame.

  Returns:
    Areas in network pixels, of visible instances only. [number] float64.
  """
  axes = _, y, x = split_axes(sample)
  areas = []
  is_wanted = ~sample.is_crowd & reaches_frame(sample, y, x)
  for index in np.flatnonzero(is_wanted):
    visible = visible_part(sample, axes, index)
    if visible is not None:
      areas.append(visible.area)
  return np.array(areas)


def to_batch(example: Mapping[str, Any]) -> types.Batch:
  """Returns a batch of one example."""
  rows = jax.tree.map(lambda x: x[None], dict(example))
  return types.Batch(**rows, row=np.zeros(1, np.int32))


def merge(fates: list[Fates]) -> dict[str, Any]:
  """Returns the sum of the fates of several frames.

  Args:
    fates: At least one.

  Returns:
    instances: Number of visible instances; `lost` by way; `reduced` by
    description; the maximum per frame as `most_instances` and, by capacity, as
    `most_taken`; `sizes` of all.
  """
  first = fates[0]
  return dict(
    frames=len(fates),
    instances=sum(f.num_visible for f in fates),
    lost={k: sum(f.lost[k] for f in fates) for k in first.lost},
    reduced={
      k: sum(f.num_reduced[k] for f in fates) for k in first.num_reduced
    },
    most_instances=max(f.num_visible for f in fates),
    most_taken={k: max(f.taken[k] for f in fates) for k in first.taken},
    sizes={k: np.concatenate([f.sizes[k] for f in fates]) for k in first.sizes},
  )


def training_fates(
  selection: Selection,
  method: Method,
  *,
  transforms: Mapping[str, Any],
  group_by_orientation: bool,
  seed: int,
  on_image: Callable[[], None],
) -> list[Fates]:
  """Returns the fates in one training augmentation of each image.

  Args:
    selection: Images to use.
    method: The method of the configuration.
    transforms: The config's section of this name.
    group_by_orientation: `dataset.group_by_orientation` of the config.
    seed: Seed of the augmentation.
    on_image: Called after each image.

  Returns:
    The fates of each image's frame.
  """
  judge = make_judge(method)
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
