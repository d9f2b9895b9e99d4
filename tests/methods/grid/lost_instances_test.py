"""Tests of solo_jax/methods/grid/lost_instances.py, by hand."""

import numpy as np
import pytest

from solo_jax.inspection.lost_instances import (
  TOO_MANY,
  TOO_MANY_FOUND,
  TOO_SMALL,
)
from solo_jax.methods.grid.lost_instances import (
  CELLS,
  NO_CELL,
  NO_LEVEL,
  TOO_MANY_PAIRS,
)
from tests.inspection.conftest import GRID, judge, make_sample


def test_each_way_to_lose_an_instance_on_a_grid():
  sample = make_sample(
    [
      (0, 0, 48, 48),  # scale 48: above both ranges
      (2, 50, 10, 58),  # centre (6, 54) in cell (6, 0), one cell only
      (3, 51, 9, 57),  # inside it, later: takes that cell
      (50, 50, 60, 60),  # fine
      (20, 60, 21, 61),  # a pixel, below min_mask_area
      (0, 0, 64, 64),  # a crowd
    ],
    crowds=[5],
  )
  found = judge(sample, **GRID)
  assert found.rows.tolist() == [NO_LEVEL.name, NO_CELL.name, "", ""]
  assert found.num_visible == 5
  assert list(found.lost.items()) == [
    (TOO_SMALL, 1),
    (TOO_MANY, 0),
    (NO_LEVEL, 1),
    (NO_CELL, 1),
    (TOO_MANY_PAIRS, 0),
  ]
  np.testing.assert_allclose(found.scales, [48, 8, 6, 10])


@pytest.mark.parametrize("name", ["solov2_shapes", "solo_shapes"])
def test_capacities_drop_instances(name):
  boxes = [(x, y, x + 8, y + 8) for y in (4, 28, 52) for x in (4, 28, 52)]
  sample = make_sample(boxes)
  few = GRID | dict(transforms__max_instances=7)
  found = judge(sample, name, **few)
  assert found.lost[TOO_MANY] == 2 and len(found.rows) == 7
  # One cell each: centres at (8, 8) are on a grid line, two cells per axis.
  room = GRID | dict(transforms__max_instances=9)
  found = judge(sample, name, **room | dict(loss__max_positives=5))
  assert found.lost[TOO_MANY_PAIRS] == 4
  assert found.taken[CELLS] >= 9
  found = judge(sample, name, max_detections=3, **room)
  assert found.lost[TOO_MANY_FOUND] == 6


def test_sharing_some_cells_is_no_loss():
  # Both centres in rows 3 and 4 of the fine grid, columns overlap in one.
  sample = make_sample([(10, 20, 26, 34), (20, 20, 36, 34)])
  wide = GRID | dict(loss__center_sigma=0.9, loss__scale_ranges=((4, 64),) * 2)
  found = judge(sample, **wide)
  assert found.rows.tolist() == ["", ""]
  assert found.num_reduced == {"some cells shared": 1}  # the earlier one
