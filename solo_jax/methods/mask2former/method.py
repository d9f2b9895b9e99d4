"""Mask2Former as a row of the table of methods."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from solo_jax.methods.interface import Method
from solo_jax.methods.mask2former.average import average_queries
from solo_jax.methods.mask2former.decode import decode as decode_instances
from solo_jax.methods.mask2former.loss import LossSettings, mask2former_loss
from solo_jax.methods.mask2former.lost_instances import lost_instances
from solo_jax.methods.mask2former.merging import (
  SegmentQueries,
  merge_panoptic,
  merge_semantic,
)
from solo_jax.methods.mask2former.network import MASK_STRIDE, Mask2Former
from solo_jax.methods.mask2former.perfect_outputs import perfect_outputs
from solo_jax.methods.mask2former.pixel_decoder import NUM_GROUPS
from solo_jax.methods.problems import find_mask_frame_problems


def make(
  backbone: nn.Module,
  *,
  num_classes: int,
  network: dict[str, Any],
  loss: dict[str, Any],
  decode: dict[str, Any],
  axis_name: str | None,
) -> Method:
  """Returns the method of a config of Mask2Former.

  Args:
    backbone: Module that returns maps at strides 4, 8, 16 and 32.
    num_classes: K.
    network: Arguments of the network.
    loss: Arguments of the loss.
    decode: `max_detections`; `things`, None where all classes are; and
      `min_score` and `min_visible` of panoptic maps.
    axis_name: Mapped device axis of the loss.

  Returns:
    The method. Panoptic and semantic segmentations are `SegmentQueries`.
  """
  module = Mask2Former(backbone=backbone, num_classes=num_classes, **network)
  things = decode["things"]
  things = range(num_classes) if things is None else things
  merge = functools.partial(
    merge_panoptic,
    things=things,
    min_score=decode["min_score"],
    min_visible=decode["min_visible"],
  )
  decode_outputs = functools.partial(
    decode_instances,
    things=things,
    max_detections=decode["max_detections"],
  )
  return Method(
    network=module,
    loss=functools.partial(
      mask2former_loss, settings=LossSettings(**loss), axis_name=axis_name
    ),
    decode=decode_outputs,
    merge=lambda variants: decode_outputs(
      average_queries(variants), variants[0].image_size
    ),
    decode_panoptic=functools.partial(_last_queries, merge),
    decode_semantic=functools.partial(_last_queries, merge_semantic),
    perfect_outputs=functools.partial(perfect_outputs, module),
    lost_instances=functools.partial(
      lost_instances, num_queries=module.num_queries
    ),
    is_thing=tuple(label in things for label in range(num_classes)),
  )


def _last_queries(merge, outputs, image_size) -> SegmentQueries:
  del image_size  # needed on the host only
  return SegmentQueries(
    class_logits=outputs.class_logits[-1],
    mask_logits=outputs.mask_logits[-1],
    merge=merge,
  )


def problems(config: Mapping[str, Any]) -> list[str]:
  """Returns problems of a config that are specific to Mask2Former.

  Args:
    config: Nested mappings.

  Returns:
    One line per problem.
  """
  network, found = config["network"], find_mask_frame_problems(config)
  channels, heads = network["channels"], network["num_heads"]
  if channels % NUM_GROUPS or channels % heads:
    found.append(
      f"network.channels is {channels}; it must be a multiple of {NUM_GROUPS} "
      f"(groups of the norms) and of network.num_heads, {heads}"
    )
  num_classes = config["dataset"]["num_classes"]
  beyond = [x for x in config["decode"]["things"] or () if x >= num_classes]
  if beyond:
    found.append(
      f"decode.things has {beyond[0]}; the labels of {num_classes} classes are "
      f"0 to {num_classes - 1}, None is all of them"
    )
  threshold = config["decode"]["mask_threshold"]
  if threshold != 0.5:
    found.append(
      f"decode.mask_threshold is {threshold}; masks of queries end where their "
      "logit is 0, at 0.5"
    )
  stride = config["transforms"]["mask_stride"]
  if MASK_STRIDE % stride:
    found.append(
      f"transforms.mask_stride is {stride}; it must be 1, 2 or {MASK_STRIDE}, "
      "as fine as the network's masks"
    )
  if stride == 1 and config["transforms"]["mask_rule"] == "published":
    found.append(
      "transforms.mask_rule='published' needs an even stride; with "
      "transforms.mask_stride=1 use 'majority'"
    )
  most = network["num_queries"] * num_classes
  if config["decode"]["max_detections"] > most:
    found.append(
      f"decode.max_detections is {config['decode']['max_detections']}; "
      f"{network['num_queries']} queries of {num_classes} classes give at "
      f"most {most}"
    )
  capacity = config["transforms"]["max_instances"]
  if capacity > network["num_queries"]:
    found.append(
      f"transforms.max_instances is {capacity}; at most network.num_queries, "
      f"{network['num_queries']}, can be found at once"
    )
  return found
