"""Tests of solo_jax/inspection/levels.py, by hand."""

import numpy as np
import pytest

from solo_jax.inspection.levels import (
  grid_loss,
  lost_share,
  pick,
  split_range,
)
from tests.inspection.conftest import sections


def test_losses_by_hand():
  # Two objects share a cell of the 2 x 2 grid, one is alone, one is too large.
  scales = np.array([10.0, 12.0, 10.0, 90.0])
  centers = np.array([[0.1, 0.1], [0.2, 0.2], [0.6, 0.1], [0.9, 0.9]])
  frames = [(scales, centers)]
  assert grid_loss(frames, (1, 50), 2) == pytest.approx(1 / 3)
  assert grid_loss(frames, (1, 50), 8) == 0
  assert lost_share(frames, ((1, 50),), (2,)) == 2 / 4
  # The first object, which the second one robs, has another level.
  assert lost_share(frames, ((1, 50), (1, 11)), (2, 2)) == 1 / 4
  assert lost_share([], ((1, 50),), (2,)) == 0


def test_ranges_cover_all_sizes_and_overlap():
  # Bounds at 32 and 128, each reaching over by the square root of two.
  ranges = split_range(3, 8.0, 512.0, least=1, most=1024)
  assert ranges == ((1, 46), (22, 182), (90, 1024))
  assert split_range(1, 8.0, 9.0, least=1, most=64) == ((1, 64),)


def test_levels_follow_the_sizes():
  # From 8 to 128 px are four doublings: three levels. Centres on a lattice of
  # 10 x 10, so that grids of 10 cells and more keep them apart.
  scales = np.array([8.0] * 97 + [128.0] * 3)
  lattice = np.stack(np.mgrid[:10, :10], -1).reshape(-1, 2) / 10 + 0.05
  network = sections("solov2_shapes")["network"]
  picked = pick([(scales, lattice)], network, (256, 256))
  assert picked.levels == (2, 3, 4)
  # Bounds at 8 x 16^(1/3) = 20.2 and 8 x 16^(2/3) = 50.8.
  assert picked.scale_ranges == ((1, 29), (14, 72), (35, 256))
  # Four cells along 29, 72 and 128 px: 35.3, 14.2 and 8 of 256 px. The large
  # objects lie side by side, 25.6 px apart, in cells of 32, and of 25.6.
  assert picked.num_grids == (36, 16, 10)
  assert picked.strides == (4, 8, 16)  # 36 cells are more than a map of 32


def test_solo_keeps_its_first_levels():
  network = sections("solo_coco")["network"]
  frames = [(np.array([100.0, 140.0]), np.array([[0.2, 0.2], [0.7, 0.7]]))]
  picked = pick(frames, network, (512, 512))
  assert picked.levels == tuple(network["levels"][:1])
  assert picked.strides == tuple(network["strides"][:1])
