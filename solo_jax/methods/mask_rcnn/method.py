"""Mask R-CNN, its cascades and HTC as a row of the table of methods."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from solo_jax.methods.interface import Method
from solo_jax.methods.mask_rcnn.decode import decode as decode_detections
from solo_jax.methods.mask_rcnn.decode import merge
from solo_jax.methods.mask_rcnn.loss import mask_rcnn_loss
from solo_jax.methods.mask_rcnn.network import MASK_SIZE, MaskRCNN
from solo_jax.methods.mask_rcnn.perfect_outputs import perfect_outputs
from solo_jax.methods.regions.lost_instances import (
  lost_instances,
  target_views,
)
from solo_jax.methods.regions.network import RegionNetwork
from solo_jax.methods.regions.sections import (
  find_problems,
  read_loss,
  read_network,
)
from solo_jax.methods.regions.suggestion import suggest

# Fields of `network` that are passed to `MaskRCNN` unchanged.
MASKS = (
  "mask_convs",
  "mask_heads",
  "mask_flow",
  "mask_scores",
  "semantic_classes",
  "mask_init",
)


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
  module = MaskRCNN(
    backbone=backbone,
    num_classes=num_classes,
    axis_name=axis_name,
    **read_network(network, decode),
    **{name: network[name] for name in MASKS},
  )
  settings = read_loss(loss)
  return Method(
    network=module,
    loss=functools.partial(
      mask_rcnn_loss,
      semantic_weight=loss["semantic_weight"],
      axis_name=axis_name,
      **settings,
    ),
    num_stuff_classes=network["semantic_classes"],
    **make_abilities(module, settings, decode, mask_size=2 * MASK_SIZE),
  )


def make_abilities(
  module: RegionNetwork,
  settings: Mapping[str, Any],
  decode: Mapping[str, Any],
  *,
  mask_size: int,
) -> dict[str, Any]:
  """Returns the parts shared by region-based networks with masks.

  Args:
    module: The network.
    settings: From `read_loss`.
    decode: Section of the config.
    mask_size: Cells per side of a predicted mask.

  Returns:
    Arguments of `Method`.
  """
  paste, proposals = decode["paste"], settings["proposals"]
  return dict(
    decode=lambda outputs, image_size: decode_detections(
      outputs.detections, outputs.mask_probs, paste=paste
    ),
    merge=functools.partial(
      merge,
      nms_threshold=decode["nms_threshold"],
      max_detections=decode["max_detections"],
      paste=paste,
    ),
    perfect_outputs=functools.partial(perfect_outputs, mask_size=mask_size),
    lost_instances=functools.partial(
      lost_instances,
      anchors=module.anchors,
      proposals=proposals,
      sampling=settings["stages"].sampling,
    ),
    target_views=functools.partial(
      target_views, anchors=module.anchors, proposals=proposals
    ),
    suggest=suggest,
  )


def problems(config: Mapping[str, Any]) -> list[str]:
  """Returns problems of a config that are specific to Mask R-CNN.

  Args:
    config: Nested mappings.

  Returns:
    One line per problem.
  """
  network, found = config["network"], find_problems(config)
  if network["mask_flow"] and network["mask_heads"] != "each":
    found.append(
      "network.mask_flow needs network.mask_heads='each': a separate head "
      "in each stage"
    )
  if config["loss"]["mask_regions"] == "predicted":
    found.append("loss.mask_regions='predicted' is PointRend's alone")
  return found
