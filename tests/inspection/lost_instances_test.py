"""Tests of solo_jax/inspection/lost_instances.py, by hand."""

import numpy as np
import pytest

from solo_jax.inspection import lost_instances
from solo_jax.inspection.frames import inference_frames, make_example
from solo_jax.inspection.selection import Selection
from solo_jax.inspection.suggestion import build_method
from tests.inspection.conftest import SampleRecords, make_sample, sections

GRID = dict(
  network__num_grids=(8, 4),
  loss__scale_ranges=((4, 16), (14, 40)),
  loss__center_sigma=0.2,
  transforms__max_instances=6,
  transforms__min_mask_area=4.0,
  preprocessing__short_side=64,
  preprocessing__max_side=64,
)


def judge(sample, name="solov2_shapes", max_detections=None, **changed):
  config = sections(name, **changed)
  (frame,) = inference_frames(sample, config["preprocessing"])
  network = build_method(config).network
  return lost_instances.judge_frame(
    frame,
    make_example(frame, config["transforms"]),
    lost_instances.make_judge(network, config["loss"], config["decode"]),
    min_mask_area=config["transforms"]["min_mask_area"],
    max_detections=max_detections,
  )


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
  assert found.rows.tolist() == [
    lost_instances.NO_LEVEL,
    lost_instances.NO_CELL,
    "",
    "",
  ]
  assert found.num_visible == 5
  assert found.lost == {
    lost_instances.TOO_SMALL: 1,
    lost_instances.TOO_MANY: 0,
    lost_instances.NO_LEVEL: 1,
    lost_instances.NO_CELL: 1,
    lost_instances.TOO_MANY_PAIRS: 0,
  }
  np.testing.assert_allclose(found.scales, [48, 8, 6, 10])


@pytest.mark.parametrize("name", ["solov2_shapes", "solo_shapes"])
def test_capacities_drop_instances(name):
  boxes = [(x, y, x + 8, y + 8) for y in (4, 28, 52) for x in (4, 28, 52)]
  sample = make_sample(boxes)
  few = GRID | dict(transforms__max_instances=7)
  found = judge(sample, name, **few)
  assert found.lost[lost_instances.TOO_MANY] == 2 and len(found.rows) == 7
  # One cell each: centres at (8, 8) lie on a grid line, two cells an axis.
  room = GRID | dict(transforms__max_instances=9)
  found = judge(sample, name, **room | dict(loss__max_positives=5))
  assert found.lost[lost_instances.TOO_MANY_PAIRS] == 4
  assert found.num_positives >= 9
  assert (
    judge(sample, name, max_detections=3, **room).lost[
      lost_instances.TOO_MANY_FOUND
    ]
    == 6
  )


def test_sharing_some_cells_is_no_loss():
  # Both centres in rows 3 and 4 of the fine grid, columns overlap in one.
  sample = make_sample([(10, 20, 26, 34), (20, 20, 36, 34)])
  wide = GRID | dict(loss__center_sigma=0.9, loss__scale_ranges=((4, 64),) * 2)
  found = judge(sample, **wide)
  assert found.rows.tolist() == ["", ""]
  assert found.num_shared == 1  # the earlier one


def test_each_way_to_lose_an_instance_without_a_grid():
  sample = make_sample(
    [
      (8, 8, 24, 24),  # fine
      (12, 12, 20, 20),  # the same centre
      (40, 40, 44, 42),  # two map pixels at stride 2
      (40, 8, 56, 24),  # all covered by the two that follow
      (40, 8, 48, 24),
      (48, 8, 56, 24),
    ]
  )
  changed = {
    k: v
    for k, v in GRID.items()
    if k[:7] not in ("network", "loss__s", "loss__c")
  }
  name = "associative_embedding_shapes"
  found = judge(sample, name, decode__min_pixels=3, **changed)
  assert found.rows.tolist() == [
    "",
    lost_instances.SAME_CENTER,
    lost_instances.NO_PIXELS,
    lost_instances.NO_PIXELS,
    "",
    "",
  ]
  assert found.num_positives == 0
  # At stride 2: of the square of 8 x 8 its inner one has 4 x 4; 2 x 1; nothing.
  assert found.map_pixels.tolist() == [48, 16, 2, 0, 32, 32]


def test_an_image_without_instances_has_no_fates():
  found = judge(make_sample([]), **GRID)
  assert found.num_visible == 0 and not len(found.rows)
  assert sum(found.lost.values()) == 0


def test_training_fates_add_up():
  samples = [make_sample([(2, 2, 12, 12)]), make_sample([(0, 0, 48, 48)] * 2)]
  config = sections(
    "solov2_shapes",
    transforms__image_size=(64, 64),
    transforms__short_sides=(64,),
    transforms__max_side=64,
    **{k: v for k, v in GRID.items() if not k.startswith("pre")},
  )
  steps = []
  found = lost_instances.training_fates(
    Selection(SampleRecords(samples), 0),
    build_method(config).network,
    transforms=config["transforms"],
    loss=config["loss"],
    decode=config["decode"],
    group_by_orientation=False,
    seed=0,
    on_image=lambda: steps.append(1),
  )
  total = lost_instances.merge(found)
  assert len(steps) == total["frames"] == 2
  assert total["instances"] == 3 and total["most_instances"] == 2
  assert total["lost"][lost_instances.NO_LEVEL] == 2
