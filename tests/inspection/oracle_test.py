"""Tests of solo_jax/inspection/oracle.py."""

import numpy as np
import pytest

from solo_jax.building import build_method
from solo_jax.inspection.frames import inference_frames, make_example
from solo_jax.inspection.oracle import (
  measure_ceiling,
  measure_masks,
  target_instances,
)
from solo_jax.inspection.selection import Selection
from tests.inspection.conftest import SampleRecords, make_sample, sections

SMALL = dict(
  preprocessing__short_side=64,
  preprocessing__max_side=64,
  preprocessing__pad_multiple=64,
  transforms__max_instances=8,
  decode__max_detections=8,
)
GRID = dict(
  network__num_grids=(8, 4),
  loss__scale_ranges=((1, 24), (20, 64)),
  decode__max_candidates=64,
  decode__nms_candidates=64,
)


def ceiling(records, name="solov2_shapes", **changed):
  config = sections(name, **SMALL | changed)
  return measure_ceiling(
    Selection(records, 0),
    build_method(config),
    transforms=config["transforms"],
    preprocessing=config["preprocessing"],
    decode=config["decode"],
    max_detections=100,
    on_image=lambda: None,
  )


def test_separate_objects_are_all_found():
  boxes = [(8, 8, 24, 24), (32, 0, 64, 32), (0, 40, 16, 64)]
  records = SampleRecords([make_sample(boxes, labels=[0, 1, 0])])
  found = ceiling(records, **GRID)
  assert found.oracle.mask_AP == pytest.approx(1.0)
  assert found.masks.mask_AR == pytest.approx(1.0)
  assert found.num_dropped == 0 and found.places == [(0, 0)]


def test_one_of_two_objects_in_a_cell_is_found():
  # Nested, of one centre: recall 1/2, and precision 1 up to there, which is 51
  # of COCO's 101 points.
  records = SampleRecords([make_sample([(8, 8, 32, 32), (16, 16, 24, 24)])])
  found = ceiling(
    records, **GRID | dict(loss__scale_ranges=((1, 64), (65, 99)))
  )
  assert found.oracle.mask_AP == pytest.approx(51 / 101, abs=1e-3)
  assert found.masks.mask_AR == pytest.approx(1.0)
  assert found.fates[0].rows.tolist() == ["no cell left", ""]


def test_a_pixel_method_finds_objects_of_one_centre():
  # The ring around the inner square is what its pixels show.
  records = SampleRecords([make_sample([(4, 4, 20, 60), (20, 4, 60, 60)])])
  found = ceiling(records, "associative_embedding_shapes")
  assert found.oracle.mask_AP > 0.99


def test_tiles_are_joined():
  boxes = [(4, 4, 20, 20), (52, 8, 68, 24), (100, 30, 124, 54)]
  records = SampleRecords([make_sample(boxes, (64, 128))])
  tiles = dict(preprocessing__tile_size=64, preprocessing__tile_overlap=32)
  found = ceiling(records, **GRID, **tiles)
  assert found.oracle.mask_AP == pytest.approx(1.0)
  assert [p[0] for p in found.places] == [0, 0, 0]


def test_masks_alone_lose_what_their_resolution_loses():
  boxes = [(3, 3, 7, 7), (21, 21, 25, 25)]
  records = SampleRecords([make_sample(boxes)])
  recalls = []
  for stride, rule in ((4, "majority"), (2, "coverage"), (1, "coverage")):
    config = sections(
      "solov2_shapes",
      **SMALL,
      transforms__mask_stride=stride,
      transforms__mask_rule=rule,
    )
    recalls.append(
      measure_masks(
        Selection(records, 0),
        transforms=config["transforms"],
        preprocessing=config["preprocessing"],
        on_image=lambda: None,
      ).mask_AR
    )
  assert recalls[0] < recalls[1] < recalls[2] == pytest.approx(1.0)


def test_targets_come_back_to_the_original_size(scenes):
  sample = Selection(scenes.validation, 1).sample(0)
  config = sections(
    "solov2_shapes", preprocessing__short_side=200, preprocessing__max_side=200
  )
  (frame,) = inference_frames(sample, config["preprocessing"])
  found = target_instances(
    frame, make_example(frame, config["transforms"]), 0.5
  )
  assert found.masks.shape == sample.masks.shape
  np.testing.assert_array_equal(found.labels, sample.labels)
  shared = (found.masks & sample.masks).sum((1, 2))
  either = (found.masks | sample.masks).sum((1, 2))
  assert (shared / either).min() > 0.9


def test_boxes_find_objects_of_one_centre_and_keep_their_masks():
  boxes = [(8, 8, 32, 32), (16, 16, 24, 24), (33, 5, 61, 40)]
  records = SampleRecords([make_sample(boxes)])
  found = ceiling(records, "mask_rcnn_shapes")
  assert found.oracle.mask_AP == found.oracle.box_AP == pytest.approx(1.0)
  assert found.masks.mask_AR == pytest.approx(1.0)
