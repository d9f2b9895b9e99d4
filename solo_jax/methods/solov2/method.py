"""SOLOv2 as a row of the table of methods."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from solo_jax.methods.grid.method import (
  Parts,
  find_problems,
  make_grid_method,
)
from solo_jax.methods.grid.refinement import DOUBLING
from solo_jax.methods.interface import Method
from solo_jax.methods.problems import (
  find_group_problems,
  find_mask_stride_problems,
)
from solo_jax.methods.solov2.decode import make_grids
from solo_jax.methods.solov2.loss import solov2_loss
from solo_jax.methods.solov2.network import SOLOv2
from solo_jax.methods.solov2.perfect_outputs import perfect_outputs

PARTS = Parts(
  network=SOLOv2,
  loss=solov2_loss,
  make_grids=make_grids,
  perfect_outputs=perfect_outputs,
  shared_cells="all",
  mask_strides=(4, 2),
)


def make(
  backbone: nn.Module, *, network: dict[str, Any], **sections: Any
) -> Method:
  """Returns the method; arguments as in `table.Row.make`."""
  parts = PARTS
  if network["refine"]:  # strides of masks and of targets differ
    parts = dataclasses.replace(parts, mask_strides=())
  return make_grid_method(parts, backbone, network=network, **sections)


def problems(config: Mapping[str, Any]) -> list[str]:
  """Returns problems of a config that are specific to SOLOv2.

  Args:
    config: Nested mappings.

  Returns:
    A line for each problem.
  """
  ratio = 2**DOUBLING.steps if config["network"]["refine"] else 1
  return [
    *find_mask_stride_problems(config, ratio),
    *find_problems(config),
    *find_group_problems(config["network"], "mask_channels", "kernel_channels"),
  ]
