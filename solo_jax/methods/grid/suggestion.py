"""Levels, scale ranges and grids that suit a dataset."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from solo_jax.methods.grid import levels
from solo_jax.methods.grid.lost_instances import WITHOUT_CELL
from solo_jax.methods.interface import Change, Examined, Objects


def suggest_levels(
  config: Mapping[str, Any], examined: Examined, *, is_free: bool
) -> list[Change]:
  """Returns levels, scale ranges and grids that lose fewer objects.

  Args:
    config: Sections as plain dicts.
    examined: The dataset.
    is_free: See `levels.pick`.

  Returns:
    Changes; none if nothing better is found.
  """
  network, loss = config["network"], config["loss"]
  frames = [
    _describe(shown, loss["center_sigma"]) for shown in examined.shown()
  ]
  lost = levels.lost_share(frames, loss["scale_ranges"], network["num_grids"])
  if lost <= levels.MAX_LOST:
    return []
  image_size = config["transforms"]["image_size"]
  picked = levels.pick(frames, network, image_size, is_free=is_free)
  now = levels.lost_share(frames, picked.scale_ranges, picked.num_grids)
  if now >= lost:
    return []
  low, high = np.percentile(np.concatenate([x.scales for x in frames]), (5, 95))
  sizes = (
    f"{WITHOUT_CELL}: {100 * lost:.3g} % of the objects of "
    f"{examined.num_shown} training images, as trained and as predicted"
    + (" at the changed input" if examined.is_changed else "")
    + f"; 90 of 100 are {low:.0f} to {high:.0f} network px"
  )
  fewer = (
    f"{WITHOUT_CELL}: {100 * now:.3g} % of them now; "
    f"{_count_cells(picked.num_grids):,} cells, were "
    f"{_count_cells(network['num_grids']):,}"
  )
  return [
    Change("loss.scale_ranges", picked.scale_ranges, sizes),
    Change("network.levels", picked.levels, sizes),
    Change("network.strides", picked.strides, "fine enough for the grids"),
    Change("network.num_grids", picked.num_grids, fewer),
  ]


def _describe(shown: Objects, center_sigma: float) -> levels.Objects:
  extent = np.array(shown.padded_size[::-1])
  return levels.Objects(
    scales=np.sqrt(shown.sizes.prod(1)),
    centers=shown.centers,
    cores=shown.sizes * center_sigma / extent,
  )


def _count_cells(num_grids: Sequence[int]) -> int:
  return sum(s * s for s in num_grids)
