"""PointRend as a row of the table of methods."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from solo_jax.methods.interface import Method
from solo_jax.methods.mask_rcnn.method import make_abilities
from solo_jax.methods.point_rend.heads import COARSE_SIZE
from solo_jax.methods.point_rend.loss import Points, point_rend_loss
from solo_jax.methods.point_rend.network import PointRend
from solo_jax.methods.point_rend.subdivision import Subdivision
from solo_jax.methods.regions.sections import (
  find_problems,
  read_loss,
  read_network,
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
  subdivision = Subdivision(
    steps=network["subdivision_steps"],
    num_points=network["subdivision_points"],
  )
  module = PointRend(
    backbone=backbone,
    num_classes=num_classes,
    axis_name=axis_name,
    subdivision=subdivision,
    **read_network(network, decode),
  )
  points = Points(
    number=loss["points"],
    candidates=loss["point_candidates"],
    uncertain_share=loss["uncertain_share"],
  )
  settings = read_loss(loss)
  mask_size = COARSE_SIZE * 2**subdivision.steps
  return Method(
    network=module,
    loss=functools.partial(
      point_rend_loss, points=points, axis_name=axis_name, **settings
    ),
    **make_abilities(module, settings, decode, mask_size=mask_size),
  )


def problems(config: Mapping[str, Any]) -> list[str]:
  """Returns problems of a config that are specific to PointRend.

  Args:
    config: Nested mappings.

  Returns:
    A line for each problem.
  """
  found = find_problems(config)
  if len(config["network"]["stage_weights"]) > 1:
    found.append("network.stage_weights must have one stage: PointRend has one")
  return found
