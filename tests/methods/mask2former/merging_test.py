"""Tests of solo_jax/methods/mask2former/merging.py."""

import numpy as np
import pytest

from solo_jax.methods.mask2former.merging import (
  Queries,
  merge_instances,
  merge_panoptic,
  merge_semantic,
)

ALLOWED = 1e-3  # share of pixels that may be too close to call


def make_queries(golden):
  config = golden.config
  return Queries(
    class_logits=golden["class_logits"].astype("f"),
    mask_logits=golden["mask_logits"].astype("f"),
    image_size=tuple(config["valid_hw"]),
    original_size=tuple(config["original_hw"]),
  )


def assert_equal_maps(actual, expected):
  assert actual.shape == expected.shape
  assert np.mean(actual != expected) <= ALLOWED


@pytest.mark.golden("m2f_postprocess*.npz")
def test_fixture_instances(golden):
  config = golden.config
  num_things = config["num_things"]
  if not config["panoptic_on"]:
    num_things = config["num_classes"]
  found = merge_instances(
    make_queries(golden),
    things=range(num_things),
    max_detections=config["top_k"],
  )
  order = golden["order_by_score"]
  np.testing.assert_allclose(
    found.scores, golden["instance_scores"][order], rtol=0, atol=1e-5
  )
  np.testing.assert_array_equal(found.labels, golden["instance_labels"][order])
  masks = golden.masks("instance_masks_packed", config["original_hw"])[order]
  assert_equal_maps(found.masks, masks)
  np.testing.assert_allclose(
    found.boxes_xyxy, golden["mmdet_boxes_by_score"], atol=1
  )
  assert found.masks.transpose(0, 2, 1).flags.c_contiguous


@pytest.mark.golden("m2f_postprocess*.npz")
def test_fixture_semantic(golden):
  found = merge_semantic(make_queries(golden))
  assert_equal_maps(found.ids - 1, golden["semantic"])
  assert [s.label for s in found.segments] == [s.id - 1 for s in found.segments]
  assert {s.id for s in found.segments} == set(np.unique(found.ids))


@pytest.mark.golden("m2f_postprocess*.npz")
def test_fixture_panoptic(golden):
  config = golden.config
  found = merge_panoptic(
    make_queries(golden),
    things=range(config["num_things"]),
    min_score=config["object_mask_threshold"],
    min_visible=config["overlap_threshold"],
  )
  assert_equal_maps(found.ids, golden["panoptic"])
  np.testing.assert_array_equal(
    [(s.id, s.label, s.is_thing) for s in found.segments],
    golden["panoptic_segments"][:, :3],
  )


def blocks(class_logits, *masks):
  """Queries of masks of whole cells, far from their edges, 16 x 16 pixels."""
  logits = np.full((len(masks), 4, 4), -20.0, np.float32)
  for logit, mask in zip(logits, masks, strict=True):
    logit[mask] = 20
  return Queries(
    class_logits=np.asarray(class_logits, np.float32),
    mask_logits=logits,
    image_size=(16, 16),
    original_size=(16, 16),
  )


LEFT, RIGHT = np.s_[:, :2], np.s_[:, 2:]
SETTINGS = dict(things=range(1), min_score=0.8, min_visible=0.8)


def test_stuff_of_two_queries_is_one_segment_and_things_are_two():
  stuff = blocks([[0, 9, 0], [0, 9, 0]], LEFT, RIGHT)
  found = merge_panoptic(stuff, **SETTINGS)
  assert [(s.id, s.label, s.is_thing) for s in found.segments] == [
    (1, 1, False)
  ]
  np.testing.assert_array_equal(found.ids, 1)
  things = blocks([[9, 0, 0], [9, 0, 0]], LEFT, RIGHT)
  found = merge_panoptic(things, **SETTINGS)
  assert [s.label for s in found.segments] == [0, 0]
  np.testing.assert_array_equal(
    found.ids, np.repeat([[1, 2]], 8, 1).repeat(16, 0)
  )


def test_a_covered_query_leaves_a_hole():
  # The second covers more than a fifth of the first, which has the same mask
  # there and a lower score: its other half stays void.
  queries = blocks([[4, 0, 0], [9, 0, 0]], np.s_[:, :], RIGHT)
  found = merge_panoptic(queries, **SETTINGS)
  assert [s.id for s in found.segments] == [1]
  np.testing.assert_array_equal(found.ids[:, :7], 0)
  np.testing.assert_array_equal(found.ids[:, 9:], 1)


def test_nothing_sure_is_a_void_map():
  found = merge_panoptic(
    blocks([[0, 0, 9], [1, 0, 0]], LEFT, RIGHT), **SETTINGS
  )
  assert not found.segments
  np.testing.assert_array_equal(found.ids, 0)


def test_an_empty_mask_scores_nothing():
  queries = blocks([[9, 0, 0], [4, 0, 0]], np.s_[:0], RIGHT)
  found = merge_instances(queries, things=range(2), max_detections=2)
  assert found.scores[0] > 0.9 and found.scores[1] == 0
  np.testing.assert_array_equal(found.boxes_xyxy[1], 0)
