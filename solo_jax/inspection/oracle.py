"""The score of a perfect network: the ceiling that a configuration allows.

Targets are made from the annotations as in training, turned into the outputs of
a network that has learned them exactly, and evaluated like predictions: the
method's own decoder, masks at the original size, joined tiles, COCO metrics.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from solo_jax import types
from solo_jax.data import records as data_records
from solo_jax.evaluation import coco_metrics
from solo_jax.inference import tiling
from solo_jax.inference.instances import masks_to_original, to_instances
from solo_jax.inspection.frames import (
  Frame,
  inference_frames,
  make_example,
  target_masks,
)
from solo_jax.inspection.lost_instances import (
  Fates,
  judge_frame,
  make_judge,
  to_batch,
)
from solo_jax.inspection.selection import Selection
from solo_jax.methods.interface import Method


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ceiling:
  """The highest score that a configuration allows on some images.

  Attributes:
    masks: Metrics of the mask targets themselves, without grid, grouping or
      capacities of the decoder: what resolution and target rule allow.
    oracle: Metrics of the decoded outputs of a perfect network; None where the
      method has no perfect outputs.
    num_dropped: Candidates beyond the decoder's capacity, over all frames.
    fates: The fates of the instances of each frame.
    places: Image in the selection and frame in the image of each of `fates`.
  """

  masks: coco_metrics.Metrics
  oracle: coco_metrics.Metrics | None
  num_dropped: int
  fates: list[Fates]
  places: list[tuple[int, int]]


def measure_ceiling(
  selection: Selection,
  method: Method,
  *,
  transforms: Mapping[str, Any],
  preprocessing: Mapping[str, Any],
  decode: Mapping[str, Any],
  max_detections: int,
  on_image: Callable[[], None],
) -> Ceiling:
  """Returns the ceiling of a configuration.

  Args:
    selection: Images to use.
    method: The method of the configuration.
    transforms: The config's section of this name: mask targets, capacity.
    preprocessing: The config's section of this name.
    decode: The config's section of this name.
    max_detections: `evaluation.max_detections` of the config.
    on_image: Called after each image.

  Returns:
    The ceiling.
  """
  judge = make_judge(method)
  threshold = decode["mask_threshold"]

  @jax.jit
  def detect(batch):
    return method.decode(method.perfect_outputs(batch), batch.image_size)

  target_results, results, fates, places, num_dropped = [], [], [], [], 0
  for index, sample in enumerate(selection.samples()):
    frames = inference_frames(sample, preprocessing)
    targets, found = [], []
    places += [(index, i) for i in range(len(frames))]
    for frame in frames:
      example = make_example(frame, transforms)
      fates.append(
        judge_frame(
          frame,
          example,
          judge,
          min_mask_area=transforms["min_mask_area"],
          max_detections=decode["max_detections"],
        )
      )
      targets.append(target_instances(frame, example, threshold))
      if method.perfect_outputs is None:
        continue
      decoded = jax.device_get(detect(to_batch(example)))
      num_dropped += int(decoded.num_dropped[0])
      found.append(
        to_instances(
          decoded,
          0,
          padded_size=frame.padded_size,
          image_size=frame.sample.image_size,
          original_size=frame.size,
          threshold=threshold,
        )
      )
    for parts, collected in ((targets, target_results), (found, results)):
      if not parts:
        continue
      whole = join(frames, parts, preprocessing["tile_size"])
      collected += coco_metrics.to_results(
        whole, sample.image_id, selection.category_ids
      )
    on_image()
  truth = data_records.to_coco(selection)
  return Ceiling(
    # With more than the evaluation accepts, its limit would count against the
    # masks.
    masks=coco_metrics.evaluate(truth, target_results, max_detections=10**4),
    oracle=None
    if method.perfect_outputs is None
    else coco_metrics.evaluate(truth, results, max_detections=max_detections),
    num_dropped=num_dropped,
    fates=fates,
    places=places,
  )


def measure_masks(
  selection: Selection,
  *,
  transforms: Mapping[str, Any],
  preprocessing: Mapping[str, Any],
  on_image: Callable[[], None],
) -> coco_metrics.Metrics:
  """Returns the AP of the mask targets alone; see `Ceiling.masks`.

  Args:
    selection: Images to use.
    transforms: The config's section of this name.
    preprocessing: The config's section of this name.
    on_image: Called after each image.

  Returns:
    Their metrics.
  """
  results = []
  for sample in selection.samples():
    frames = inference_frames(sample, preprocessing)
    parts = [
      target_instances(frame, make_example(frame, transforms), 0.5)
      for frame in frames
    ]
    whole = join(frames, parts, preprocessing["tile_size"])
    results += coco_metrics.to_results(
      whole, sample.image_id, selection.category_ids
    )
    on_image()
  truth = data_records.to_coco(selection)
  return coco_metrics.evaluate(truth, results, max_detections=10**4)


def target_instances(
  frame: Frame, example: Mapping[str, Any], threshold: float
) -> types.Instances:
  """Returns the mask targets of a frame as detections of score 1.

  Args:
    frame: The frame.
    example: The result of `frames.make_example` for it.
    threshold: A pixel belongs to a mask above it.

  Returns:
    Instances at the frame's original size.
  """
  masks, boxes_xyxy = masks_to_original(
    target_masks(example),
    padded_size=frame.padded_size,
    image_size=frame.sample.image_size,
    original_size=frame.size,
    threshold=threshold,
  )
  return types.Instances(
    masks=masks,
    scores=np.ones(len(masks), np.float32),
    labels=example["labels"][example["valid"]],
    boxes_xyxy=boxes_xyxy,
  )


def join(
  frames: list[Frame], parts: list[types.Instances], tile_size: int | None
) -> types.Instances:
  """Returns the joined detections of an image's frames, as the predictor does.

  Args:
    frames: Frames of one image.
    parts: Instances of each at its original size.
    tile_size: `preprocessing.tile_size`; None if there is one frame.

  Returns:
    Instances of the image.
  """
  if tile_size is None:
    return parts[0]
  size = tuple(
    max(frame.origin[axis] + frame.size[axis] for frame in frames)
    for axis in (0, 1)
  )
  pieces = [
    tiling.cut_out(found, frame.origin, size)
    for frame, found in zip(frames, parts, strict=True)
  ]
  origins = [frame.origin for frame in frames]
  return tiling.merge_tiles(
    pieces,
    origins,
    tile_size,
    size,
    has_predicted_boxes=parts[0].has_predicted_boxes,
  )
