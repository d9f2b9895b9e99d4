"""Tests of solo_jax/methods/grid/suggestion.py, by hand."""

import numpy as np

from solo_jax.methods.grid.suggestion import suggest_levels
from solo_jax.methods.interface import Examined, Objects
from tests.inspection.conftest import sections


def examine(num_side, size, is_changed=False):
  """A lattice of num_side^2 squares on 128 x 128 px."""
  lattice = (np.arange(num_side) + 0.5) / num_side
  centers = np.stack(np.meshgrid(lattice, lattice), -1).reshape(-1, 2)
  shown = Objects(
    centers=centers,
    sizes=np.full((num_side**2, 2), float(size)),
    padded_size=(128, 128),
  )
  return Examined(
    object_sizes=np.zeros(0),
    num_shown=1,
    is_changed=is_changed,
    shown=lambda: [shown],
  )


def test_grids_that_lose_objects_are_replaced():
  config = sections("solov2_shapes", network__num_grids=(4, 4))
  changes = suggest_levels(config, examine(8, 12, True), is_free=True)
  changes = {change.field: change for change in changes}
  assert set(changes) == {
    "loss.scale_ranges",
    "network.levels",
    "network.strides",
    "network.num_grids",
  }
  assert changes["network.num_grids"].value[0] >= 8
  reason = changes["loss.scale_ranges"].reason
  # 64 objects share 16 cells.
  assert reason.startswith("without a cell: 75 % of the objects of 1 training")
  assert "at the changed input; 90 of 100 are 12 to 12 network px" in reason
  assert "0 % of them now" in changes["network.num_grids"].reason


def test_grids_that_suit_are_kept():
  config = sections("solov2_shapes", network__num_grids=(32, 16))
  assert suggest_levels(config, examine(8, 12), is_free=True) == []
