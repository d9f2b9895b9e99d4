"""Tests of solo_jax/methods/grid/levels.py, by hand."""

import jax
import numpy as np
import pytest

from solo_jax.methods.grid.levels import (
  Objects,
  assign,
  grid_loss,
  lost_share,
  pick,
  split_range,
)
from solo_jax.methods.grid.perfect_outputs import find_owners
from solo_jax.methods.grid.targets import Assignment, assign_cells
from tests.inspection.conftest import sections


def make_objects(scales, centers, core=0.0):
  centers = np.array(centers, float).reshape(-1, 2)
  cores = np.full_like(centers, core)
  return Objects(scales=np.array(scales, float), centers=centers, cores=cores)


def test_losses_by_hand():
  # Two objects share a cell of the 2 x 2 grid, one is alone, one is too large.
  centers = [[0.1, 0.1], [0.2, 0.2], [0.6, 0.1], [0.9, 0.9]]
  frames = [make_objects([10, 12, 10, 90], centers)]
  assert grid_loss(frames, (1, 50), 2) == pytest.approx(1 / 3)
  assert grid_loss(frames, (1, 50), 8) == 0
  assert lost_share(frames, ((1, 50),), (2,)) == 2 / 4
  # The first object, which the second one robs, has another level.
  assert lost_share(frames, ((1, 50), (1, 11)), (2, 2)) == 1 / 4
  assert lost_share([], ((1, 50),), (2,)) == 0


@pytest.mark.parametrize("num_grid", [5, 9])
def test_cells_are_those_of_the_loss(num_grid):
  rng = np.random.default_rng(num_grid)
  size = np.array([200, 160])  # width, height
  centers = rng.uniform(0, size - 1, (40, 2)).astype(np.float32)
  boxes = np.concatenate([centers, centers], 1)
  half = rng.uniform(3, 40, (40, 2)).astype(np.float32)
  boxes += np.concatenate([-half, half], 1)

  @jax.jit
  def find_cells(centers, boxes, labels):
    targets = assign_cells(
      centers,
      boxes,
      labels,
      labels == 0,
      padded_size=(160, 200),
      num_grids=(num_grid,),
      assignment=Assignment(
        scale_ranges=((10, 60),),
        center_sigma=0.5,
        max_positives=400,
        shared_cells="all",
      ),
    )
    return find_owners(targets, num_grid**2, 40)[0]

  expected = find_cells(centers, boxes, np.zeros(40, np.int32))
  sizes = boxes[:, 2:] - boxes[:, :2]
  objects = Objects(
    scales=np.sqrt(sizes.prod(1)),
    centers=centers / size,
    cores=sizes / 2 / size,
  )
  in_range, found = assign(objects, (10, 60), num_grid)
  assert set(found) == set(np.asarray(expected).tolist()) - {-1}
  assert len(found) < len(in_range) < 40


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
  picked = pick(
    [make_objects(scales, lattice)], network, (256, 256), is_free=True
  )
  assert picked.levels == (2, 3, 4)
  # Bounds at 8 x 16^(1/3) = 20.2 and 8 x 16^(2/3) = 50.8.
  assert picked.scale_ranges == ((1, 29), (14, 72), (35, 256))
  # Four cells along 29, 72 and 128 px: 35.3, 14.2 and 8 of 256 px. The large
  # objects are side by side, 25.6 px apart, in cells of 32, and of 25.6.
  assert picked.num_grids == (36, 16, 10)
  assert picked.strides == (4, 8, 16)  # 36 cells are more than a map of 32


def test_solo_keeps_its_first_levels():
  network = sections("solo_coco")["network"]
  frames = [make_objects([100, 140], [[0.2, 0.2], [0.7, 0.7]])]
  picked = pick(frames, network, (512, 512), is_free=False)
  assert picked.levels == tuple(network["levels"][:1])
  assert picked.strides == tuple(network["strides"][:1])
