"""QueryInst as a row of the table of methods."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from solo_jax.methods.interface import Method
from solo_jax.methods.queryinst.decode import decode as decode_detections
from solo_jax.methods.queryinst.decode import merge
from solo_jax.methods.queryinst.loss import LossSettings, queryinst_loss
from solo_jax.methods.queryinst.lost_instances import lost_instances
from solo_jax.methods.queryinst.network import QueryInst
from solo_jax.methods.queryinst.perfect_outputs import perfect_outputs


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
  module = QueryInst(
    backbone=backbone,
    num_classes=num_classes,
    max_detections=decode["max_detections"],
    axis_name=axis_name,
    **network,
  )
  return Method(
    network=module,
    loss=functools.partial(
      queryinst_loss,
      settings=LossSettings(**loss),
      axis_name=axis_name,
    ),
    decode=functools.partial(
      decode_detections, score_threshold=decode["score_threshold"]
    ),
    merge=functools.partial(
      merge,
      max_detections=decode["max_detections"],
      score_threshold=decode["score_threshold"],
    ),
    perfect_outputs=functools.partial(
      perfect_outputs, number=decode["max_detections"]
    ),
    lost_instances=functools.partial(
      lost_instances, num_proposals=network["num_proposals"]
    ),
  )


def problems(config: Mapping[str, Any]) -> list[str]:
  """Returns problems of a config that are specific to QueryInst.

  Args:
    config: Nested mappings.

  Returns:
    A line for each problem.
  """
  network, found = config["network"], []
  if network["channels"] % network["num_heads"]:
    found.append(
      f"network.channels is {network['channels']}; it must be a multiple of "
      f"network.num_heads, {network['num_heads']}"
    )
  if (network["num_mask_stages"] or 1) > network["num_stages"]:
    found.append(
      f"network.num_mask_stages is {network['num_mask_stages']}; there are "
      f"{network['num_stages']} stages, network.num_stages"
    )
  if network["proposal_init"] == "grid" and (
    math.isqrt(network["num_proposals"]) ** 2 != network["num_proposals"]
  ):
    found.append(
      f"network.num_proposals is {network['num_proposals']}; a grid, "
      "network.proposal_init, needs a square number such as 36 or 49"
    )
  most = network["num_proposals"] * config["dataset"]["num_classes"]
  if config["decode"]["max_detections"] > most:
    found.append(
      f"decode.max_detections is {config['decode']['max_detections']}; "
      f"{network['num_proposals']} proposals and the classes give at most "
      f"{most}"
    )
  capacity = config["transforms"]["max_instances"]
  if capacity > network["num_proposals"]:
    found.append(
      f"transforms.max_instances is {capacity}; at most network.num_proposals, "
      f"{network['num_proposals']}, can be found at once"
    )
  return found
