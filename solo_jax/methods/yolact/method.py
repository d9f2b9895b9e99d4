"""YOLACT as a row of the table of methods."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from solo_jax import types
from solo_jax.methods.interface import LostInstances, Method
from solo_jax.methods.problems import find_mask_frame_problems
from solo_jax.methods.yolact import lost_instances as lost
from solo_jax.methods.yolact.decode import decode as decode_detections
from solo_jax.methods.yolact.decode import merge
from solo_jax.methods.yolact.detections import DetectionSettings
from solo_jax.methods.yolact.loss import LossSettings, yolact_loss
from solo_jax.methods.yolact.network import YOLACT
from solo_jax.methods.yolact.perfect_outputs import perfect_outputs
from solo_jax.methods.yolact.priors import Priors, make_priors
from solo_jax.methods.yolact.suggestion import suggest

PROTOTYPE_STRIDE = 4  # where it is a whole number
LEVEL_STRIDES = (8, 16, 32, 64, 128)  # P3 to P7


def make(
  backbone: nn.Module,
  *,
  num_classes: int,
  network: dict[str, Any],
  loss: dict[str, Any],
  decode: dict[str, Any],
  axis_name: str | None,
) -> Method:
  """Returns the method; arguments as in `table.Row.make`."""
  sections = dict(network)
  priors = Priors(
    sizes=tuple(map(tuple, sections.pop("prior_sizes"))),
    ratios=tuple(sections.pop("prior_ratios")),
    is_square=sections.pop("square_priors"),
  )
  module = YOLACT(
    backbone=backbone,
    num_classes=num_classes,
    priors=priors,
    is_rectified=sections.pop("rectified_pyramid"),
    mask_score_channels=tuple(sections.pop("mask_score_channels")),
    detection=DetectionSettings(
      min_score=decode["score_threshold"],
      **{
        field.name: decode[field.name]
        for field in dataclasses.fields(DetectionSettings)
        if field.name != "min_score"
      },
    ),
    **sections,
  )
  settings = LossSettings(**loss)
  return Method(
    network=module,
    loss=functools.partial(yolact_loss, settings=settings, axis_name=axis_name),
    decode=decode_detections,
    merge=functools.partial(
      merge,
      nms_threshold=decode["nms_threshold"],
      max_detections=decode["max_detections"],
    ),
    perfect_outputs=functools.partial(perfect_outputs, module),
    lost_instances=functools.partial(
      _lost_instances, priors, settings.assignment
    ),
    suggest=suggest,
  )


def _lost_instances(
  priors: Priors, assignment: str, batch: types.Batch
) -> LostInstances:
  size = batch.image.shape[1:3]
  map_sizes = [tuple(-(-n // stride) for n in size) for stride in LEVEL_STRIDES]
  return lost.lost_instances(
    batch,
    priors=make_priors(priors, map_sizes, size),
    assignment=assignment,
  )


def problems(config: Mapping[str, Any]) -> list[str]:
  """Returns problems of a config that are specific to YOLACT.

  Args:
    config: Nested mappings.

  Returns:
    A line for each problem.
  """
  transforms, found = config["transforms"], find_mask_frame_problems(config)
  stride = transforms["mask_stride"]
  if stride > PROTOTYPE_STRIDE:
    found.append(
      f"transforms.mask_stride is {stride}; targets must not be coarser than "
      f"prototypes, whose stride is {PROTOTYPE_STRIDE}"
    )
  per_byte = 1 if transforms["mask_rule"] == "coverage" else 8
  height, width = transforms["image_size"]
  if height % stride or width % (stride * per_byte):
    found.append(
      f"transforms.image_size is {(height, width)}; masks of stride {stride} "
      "need multiples of it (8 times that in width for bits): "
      "mask_rule='coverage' with a smaller mask_stride fits more sizes"
    )
  sizes = config["network"]["prior_sizes"]
  if len(set(map(len, sizes))) > 1:
    found.append(
      f"network.prior_sizes is {sizes}; each level must have as many sizes as "
      "the others: one head predicts for all"
    )
  scores = bool(config["network"]["mask_score_channels"])
  if scores != bool(config["loss"]["mask_score_weight"]):
    found.append(
      "network.mask_score_channels and loss.mask_score_weight belong together: "
      "both or neither"
    )
  return found
