"""Tests of solo_jax/methods/grid/targets.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.grid.targets import (
  Assignment,
  assign_cells,
  flatten_levels,
  grid_cell,
)


def assign(centers, boxes, labels, valid=None, **overrides):
  settings = dict(
    scale_ranges=((1.0, 32.0), (16.0, 64.0)),
    center_sigma=0.2,
    max_positives=32,
    shared_cells="all",
  )
  labels = np.asarray(labels, np.int32).reshape(-1)
  found = compiled(Assignment(**settings | overrides))(
    np.asarray(centers, np.float32).reshape(-1, 2),
    np.asarray(boxes, np.float32).reshape(-1, 4),
    labels,
    np.ones(len(labels), bool) if valid is None else np.asarray(valid, bool),
  )
  return jax.tree.map(np.asarray, found)


@functools.cache
def compiled(assignment):
  return jax.jit(
    functools.partial(
      assign_cells,
      padded_size=(64, 64),
      num_grids=(8, 4),
      assignment=assignment,
    )
  )


def test_one_small_object_takes_its_centre_cell():
  # 10 px box about (20, 44): half extent 1 px, cell (row 5, column 2) of 8.
  targets = assign([[20, 44]], [[15, 39, 25, 49]], [3])
  np.testing.assert_array_equal(targets.cell[targets.valid], [5 * 8 + 2])
  category = np.full(64 + 16, -1)
  category[42] = 3
  np.testing.assert_array_equal(targets.category, category)


def test_box_beyond_the_centre_is_limited_to_3x3():
  # sqrt(64 * 64) = 64 is in the second range only (inclusive end); its centre
  # region of +-6.4 px about (32, 32) touches cells 1 and 2 of 4 per axis.
  targets = assign([[32, 32]], [[0, 0, 64, 64]], [0])
  cells = sorted(np.asarray(targets.cell[targets.valid]) - 64)
  assert cells == [1 * 4 + 1, 1 * 4 + 2, 2 * 4 + 1, 2 * 4 + 2]


def test_shared_cell_trains_both_masks_and_keeps_the_later_label():
  box = [15, 39, 25, 49]
  targets = assign([[20, 44], [20, 44]], [box, box], [1, 2])
  assert targets.category[42] == 2
  np.testing.assert_array_equal(targets.instance[targets.valid], [0, 1])
  np.testing.assert_array_equal(targets.cell[targets.valid], [42, 42])


def test_capacity_keeps_centre_cells_and_counts_the_rest():
  centers = [[16.0, 16.0], [48.0, 48.0], [16.0, 48.0]]
  boxes = [[x - 15, y - 15, x + 15, y + 15] for x, y in centers]
  full = assign(centers, boxes, [0, 1, 2])
  total = int(full.valid.sum())
  cut = assign(centers, boxes, [0, 1, 2], max_positives=6)
  assert int(cut.valid.sum()) == 6
  assert int(cut.num_dropped) == total - 6 > 0
  assert set(np.asarray(cut.instance)) == {0, 1, 2}
  np.testing.assert_array_equal(cut.category, full.category)


def test_invalid_instances_get_no_cells():
  targets = assign([[20, 44]], [[15, 39, 25, 49]], [3], valid=[False])
  assert not targets.valid.any()
  assert (np.asarray(targets.category) == -1).all()
  assert int(targets.num_dropped) == 0


def test_padding_instances_changes_nothing():
  centers, boxes = [[20, 44], [30, 30]], [[15, 39, 25, 49], [10, 10, 50, 50]]
  alone = assign(centers, boxes, [1, 2])
  padded = assign(
    centers + [[9, 9]], boxes + [[0, 0, 20, 20]], [1, 2, 0], [1, 1, 0]
  )
  jax.tree.map(np.testing.assert_array_equal, alone, padded)


@pytest.mark.golden("preprocess*.npz")
def test_grid_lines_follow_float32_division(golden):
  cell = jax.jit(grid_cell)(
    golden["line_centre"],
    golden["line_extent"].astype(np.float32),
    golden["line_num_grid"],
  )
  np.testing.assert_array_equal(cell, golden["line_cell"])


@pytest.mark.golden("preprocess*.npz")
def test_grid_lines_with_static_sizes(golden):
  """With compile-time sizes, which XLA would like to turn into products."""
  for extent in np.unique(golden["line_extent"]):
    here = golden["line_extent"] == extent
    for num_grid in np.unique(golden["line_num_grid"][here]):
      rows = here & (golden["line_num_grid"] == num_grid)
      centre = golden["line_centre"][rows]

      @jax.jit
      def cells(x, extent=float(extent), num_grid=int(num_grid)):
        return grid_cell(x, jnp.array([extent]), jnp.array([num_grid]))

      np.testing.assert_array_equal(cells(centre), golden["line_cell"][rows])


@pytest.mark.golden("targets_solo*.npz")
def test_fixture(golden, golden_masks, golden_centers):
  """SOLOv2 files list a shared cell once for each instance, SOLO files once."""
  config = golden.config
  is_solov2 = "num_pos_entries" in golden.arrays
  targets = jax.jit(
    functools.partial(
      assign_cells,
      padded_size=tuple(config["net_hw"]),
      num_grids=tuple(config["num_grids"]),
      assignment=Assignment(
        scale_ranges=tuple(map(tuple, config["scale_ranges"])),
        center_sigma=config["pos_scale"],
        max_positives=256,
        shared_cells="all" if is_solov2 else "last",
      ),
    )
  )(
    golden_centers,
    golden["gt_boxes"],
    golden["gt_labels"].astype(np.int32),
    golden_masks.any((1, 2)),
  )
  targets = jax.tree.map(np.asarray, targets)
  pairs = sorted(
    zip(
      np.asarray(targets.cell[targets.valid]),
      np.asarray(targets.instance[targets.valid]),
      strict=True,
    )
  )
  expected, categories, start = [], [], 0
  for level, size in enumerate(config["num_grids"]):
    cells = golden[f"pos_index_{level}"]
    last = golden[f"cell_last_gt_{level}"].ravel()
    owners = golden[f"pos_gt_{level}"] if is_solov2 else last[cells]
    expected += zip(cells + start, owners, strict=True)
    labels = golden[f"cls_target_{level}"].ravel()
    categories.append(np.where(labels == config["num_classes"], -1, labels))
    start += size * size
  assert pairs == sorted(expected)
  np.testing.assert_array_equal(targets.category, np.concatenate(categories))
  if is_solov2:
    assert len(pairs) == golden["num_pos_entries"]
    assert int((targets.category >= 0).sum()) == golden["num_pos_cells"]


def test_last_instance_takes_a_shared_cell_alone():
  box = [15, 39, 25, 49]
  targets = assign(
    [[20, 44], [20, 44]], [box, box], [1, 2], shared_cells="last"
  )
  assert targets.category[42] == 2
  np.testing.assert_array_equal(targets.instance[targets.valid], [1])
  np.testing.assert_array_equal(targets.cell[targets.valid], [42])
  assert int(targets.num_dropped) == 0


def test_unknown_rule_for_shared_cells():
  with pytest.raises(ValueError, match="'all' or 'last', not 'first'"):
    assign([[20, 44]], [[15, 39, 25, 49]], [3], shared_cells="first")


def test_flatten_levels_is_level_by_level_and_row_major():
  levels = jnp.arange(4.0).reshape(1, 2, 2, 1), jnp.full((1, 1, 1, 1), 9.0)
  np.testing.assert_array_equal(
    flatten_levels(levels)[0, :, 0], [0, 1, 2, 3, 9]
  )
