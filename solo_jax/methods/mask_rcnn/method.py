"""Mask R-CNN, its cascades and HTC as a row of the table of methods."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from solo_jax.methods.interface import Method
from solo_jax.methods.mask_rcnn.decode import decode as decode_detections
from solo_jax.methods.mask_rcnn.loss import mask_rcnn_loss
from solo_jax.methods.mask_rcnn.network import MASK_SIZE, MaskRCNN
from solo_jax.methods.mask_rcnn.perfect_outputs import perfect_outputs
from solo_jax.methods.regions.sections import (
  find_problems,
  read_loss,
  read_network,
)

# Fields of `network` that go to `MaskRCNN` as they are.
MASKS = (
  "mask_convs",
  "mask_heads",
  "mask_flow",
  "mask_scores",
  "semantic_classes",
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
  return Method(
    network=module,
    loss=functools.partial(
      mask_rcnn_loss,
      semantic_weight=loss["semantic_weight"],
      axis_name=axis_name,
      **read_loss(loss),
    ),
    decode=lambda outputs, image_size: decode_detections(
      outputs.detections, outputs.mask_probs, paste=decode["paste"]
    ),
    perfect_outputs=functools.partial(perfect_outputs, mask_size=2 * MASK_SIZE),
  )


def problems(config: Mapping[str, Any]) -> list[str]:
  """Returns problems of a config that are specific to Mask R-CNN.

  Args:
    config: Nested mappings.

  Returns:
    A line for each problem.
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
