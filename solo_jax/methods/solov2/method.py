"""SOLOv2 as a row of the table of methods."""

import functools
from collections.abc import Mapping
from typing import Any

from solo_jax.methods.grid.method import (
  Parts,
  find_problems,
  make_grid_method,
)
from solo_jax.methods.problems import (
  find_group_problems,
  find_mask_stride_problems,
)
from solo_jax.methods.solov2.decode import make_grids
from solo_jax.methods.solov2.loss import solov2_loss
from solo_jax.methods.solov2.network import SOLOv2
from solo_jax.methods.solov2.perfect_outputs import perfect_outputs

make = functools.partial(
  make_grid_method,
  Parts(
    network=SOLOv2,
    loss=solov2_loss,
    make_grids=make_grids,
    perfect_outputs=perfect_outputs,
    shared_cells="all",
    mask_strides=(4, 2),
  ),
)


def problems(config: Mapping[str, Any]) -> list[str]:
  """Returns problems of a config that are specific to SOLOv2.

  Args:
    config: Nested mappings.

  Returns:
    A line for each problem.
  """
  return [
    *find_mask_stride_problems(config),
    *find_problems(config),
    *find_group_problems(config["network"], "mask_channels", "kernel_channels"),
  ]
