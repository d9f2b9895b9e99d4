"""SOLO as a row of the table of methods."""

import functools
from collections.abc import Mapping
from typing import Any

from solo_jax.methods.grid.method import (
  Parts,
  find_problems,
  make_grid_method,
)
from solo_jax.methods.solo.decode import make_grids
from solo_jax.methods.solo.loss import solo_loss
from solo_jax.methods.solo.network import SOLO
from solo_jax.methods.solo.perfect_outputs import own_masks, perfect_outputs

make = functools.partial(
  make_grid_method,
  Parts(
    network=SOLO,
    loss=solo_loss,
    make_grids=make_grids,
    perfect_outputs=functools.partial(perfect_outputs, make_factors=own_masks),
    shared_cells="last",
  ),
)


def problems(config: Mapping[str, Any]) -> list[str]:
  """Returns problems of a config that are specific to SOLO.

  Args:
    config: Nested mappings.

  Returns:
    A line for each problem.
  """
  found = find_problems(config)
  # Each level has masks, of twice the resolution of its map.
  strides = config["network"]["strides"]
  targets = config["transforms"]["mask_stride"]
  if not all(s == 2 * targets or s % (4 * targets) == 0 for s in strides):
    found.append(
      f"network.strides is {strides} and transforms.mask_stride {targets}; "
      "half of every stride must be transforms.mask_stride, or an even "
      "multiple of it"
    )
  return found
