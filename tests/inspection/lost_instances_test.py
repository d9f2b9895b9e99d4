"""Tests of solo_jax/inspection/lost_instances.py, by hand.

What gets lost in the targets of a method is in the tests of the methods.
"""

import dataclasses

import numpy as np

from solo_jax.building import build_method
from solo_jax.inspection import lost_instances
from solo_jax.inspection.lost_instances import TOO_MANY, TOO_SMALL
from solo_jax.inspection.selection import Selection
from solo_jax.methods.grid.lost_instances import CELLS, NO_LEVEL
from tests.inspection.conftest import (
  GRID,
  SampleRecords,
  judge,
  make_sample,
  sections,
)


def test_an_image_without_instances_has_no_fates():
  found = judge(make_sample([]), **GRID)
  assert found.num_visible == 0 and not len(found.rows)
  assert sum(found.lost.values()) == 0


def find_fates(method, config, samples, on_image=lambda: None):
  return lost_instances.training_fates(
    Selection(SampleRecords(samples), 0),
    method,
    transforms=config["transforms"],
    group_by_orientation=False,
    seed=0,
    on_image=on_image,
  )


def test_training_fates_add_up():
  samples = [make_sample([(2, 2, 12, 12)]), make_sample([(0, 0, 48, 48)] * 2)]
  config = sections(
    "solov2_shapes",
    transforms__image_size=(64, 64),
    transforms__augment=(
      ("resize_short_side", dict(short_sides=(64,), max_side=64)),
    ),
    **{k: v for k, v in GRID.items() if not k.startswith("pre")},
  )
  steps = []
  found = find_fates(
    build_method(config), config, samples, lambda: steps.append(1)
  )
  total = lost_instances.merge(found)
  assert len(steps) == total["frames"] == 2
  assert total["instances"] == 3 and total["most_instances"] == 2
  assert total["lost"][NO_LEVEL] == 2
  assert total["most_taken"][CELLS] == max(f.taken[CELLS] for f in found) > 0


def test_sizes_of_all_frames_are_kept():
  samples = [make_sample([(8, 8, 24, 24)]), make_sample([(8, 8, 40, 40)] * 2)]
  config = sections("associative_embedding_shapes")
  found = find_fates(build_method(config), config, samples)
  (sizes,) = lost_instances.merge(found)["sizes"].values()
  assert len(sizes) == 3 and np.sum(sizes > 0) == 2  # one hides another


def test_a_method_that_lists_none_loses_what_all_lose():
  config = sections("solov2_shapes", transforms__max_instances=1)
  method = dataclasses.replace(build_method(config), lost_instances=None)
  config["transforms"]["min_mask_area"] = 150
  sample = make_sample([(8, 8, 24, 24), (30, 8, 44, 24), (2, 2, 3, 3)])
  (found,) = find_fates(method, config, [sample])
  assert found.lost == {TOO_SMALL: 1, TOO_MANY: 1}
  assert found.rows.tolist() == [""] and not found.taken
