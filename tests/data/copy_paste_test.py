"""Tests of solo_jax/data/copy_paste.py."""

import dataclasses

import numpy as np

from solo_jax.data import batching
from solo_jax.data.copy_paste import CopyPaste, paste
from solo_jax.data.mask_frames import ImageFrame
from tests.drawn_samples import make_drawn


def test_paste_by_hand():
  """One instance is cut, one covered, one untouched; the crowd is cut too."""
  own = [(0, 0, 10, 10), (12, 4, 16, 8), (30, 20, 36, 30), (8, 0, 20, 4)]
  sample = make_drawn(50, own, crowds=[3])
  other = make_drawn(200, [(5, 2, 20, 12), (0, 30, 4, 32)], first_id=10)
  out = paste(sample, other, np.array([0]))
  assert out.image_id == 0 and out.image_size == (32, 40)
  np.testing.assert_array_equal(out.labels, [0, 2, 3, 10])
  np.testing.assert_array_equal(out.annotation_ids, [0, 2, 3, 10])
  np.testing.assert_array_equal(out.is_crowd, [False, False, True, False])
  pasted = np.zeros((32, 40), bool)
  pasted[2:12, 5:20] = True
  np.testing.assert_array_equal(out.image[..., 1], np.where(pasted, 200, 50))
  dense = out.masks.to_dense()
  for mask, index in zip(dense, (0, 2, 3), strict=False):
    left, top, right, bottom = own[index]
    expected = np.zeros((32, 40), bool)
    expected[top:bottom, left:right] = True
    np.testing.assert_array_equal(mask, expected & ~pasted)
  np.testing.assert_array_equal(dense[3], pasted)
  # 10 x 10 loses 5 x 8 of its pixels and no row or column; the crowd's lower
  # half goes.
  np.testing.assert_array_equal(
    out.boxes_xyxy,
    [(0, 0, 10, 10), (30, 20, 36, 30), (8, 0, 20, 2), (5, 2, 20, 12)],
  )
  np.testing.assert_array_equal(out.areas, [60, 60, 24, 150])


def test_frames_of_two_sizes_make_one_that_holds_both():
  sample = make_drawn(50, [(0, 0, 8, 20)], size=(20, 40))
  other = make_drawn(90, [(2, 22, 10, 30)], size=(30, 16), first_id=5)
  out = paste(sample, other, np.array([0]))
  assert out.image_size == out.original_size == out.masks.size == (30, 40)
  expected = np.zeros((30, 40))
  expected[:20] = 50
  expected[22:30, 2:10] = 90
  np.testing.assert_array_equal(out.image[..., 1], expected)
  assert out.masks.to_dense().sum() == 160 + 64


def test_a_pasted_object_brings_its_class_of_the_map_of_stuff():
  sample = dataclasses.replace(
    make_drawn(50, [], size=(20, 40)), stuff=np.full((20, 40), 3, np.uint8)
  )
  other = dataclasses.replace(
    make_drawn(90, [(2, 18, 10, 30)], size=(30, 16)),
    stuff=np.full((30, 16), 7, np.uint8),
  )
  out = paste(sample, other, np.array([0]))
  expected = np.full((30, 40), 255, np.uint8)
  expected[:20] = 3
  expected[18:30, 2:10] = 7
  np.testing.assert_array_equal(out.stuff, expected)
  assert paste(make_drawn(50, []), other, np.array([0])).stuff is None


def test_nothing_to_paste_changes_nothing():
  sample = make_drawn(50, [(0, 0, 8, 8)])
  only_crowd = make_drawn(90, [(0, 0, 9, 9)], crowds=[0])
  for other in (make_drawn(90, []), only_crowd):
    rng = np.random.default_rng(0)
    out = CopyPaste(probability=1.0)(sample, rng, lambda other=other: other)
    assert out is sample


def test_pasting_works_over_all_objects_and_without_any():
  other = make_drawn(90, [(0, 0, 40, 32)], first_id=5)
  for boxes in ([(3, 3, 8, 8)], []):
    out = paste(make_drawn(50, boxes), other, np.array([0]))
    np.testing.assert_array_equal(out.labels, [5])
    assert out.boxes_xyxy.shape == (1, 4) and (out.image == 90).all()


def test_any_number_is_pasted_and_crowds_are_not():
  boxes = [(4 * i, 0, 4 * i + 3, 3) for i in range(4)]
  other = make_drawn(90, boxes, crowds=[2], first_id=5)
  rng, sizes = np.random.default_rng(0), set()
  for _ in range(60):
    out = CopyPaste(probability=1.0)(make_drawn(50, []), rng, lambda: other)
    assert 7 not in out.labels and list(out.labels) == sorted(out.labels)
    sizes.add(len(out.labels))
  assert sizes == {0, 1, 2, 3}


def test_probability_decides_whether_another_image_is_drawn():
  sample = make_drawn(50, [])
  rng, calls = np.random.default_rng(0), []

  def draw_other():
    calls.append(1)
    return make_drawn(90, [(0, 0, 3, 3)])

  for _ in range(50):
    CopyPaste(probability=0.0)(sample, rng, draw_other)
  assert not calls
  for _ in range(200):
    CopyPaste(probability=0.25)(sample, rng, draw_other)
  assert 30 <= len(calls) <= 70


def test_targets_of_a_pasted_sample_do_not_overlap_and_count_the_capacity():
  sample = make_drawn(50, [(0, 0, 16, 16), (20, 8, 30, 24)], size=(32, 32))
  boxes = [(8, 8, 24, 24), (24, 24, 32, 32)]
  other = make_drawn(90, boxes, size=(32, 32), first_id=5)
  example = batching.make_example(
    paste(sample, other, np.array([0, 1])),
    image_size=(32, 32),
    mask_frame=ImageFrame(rule="coverage", stride=4),
    max_instances=3,
    min_mask_area=1.0,
  )
  assert example["num_dropped"] == 1
  np.testing.assert_array_equal(example["labels"], [0, 1, 5])
  weights = example["masks"].unpack()
  assert weights.sum(0).max() == 1
  # 16 x 16 without a corner of 8 x 8; 10 x 16 without 4 x 16; 16 x 16 whole.
  np.testing.assert_allclose(
    weights.sum((1, 2)) * 16, [192, 96, 256], rtol=2e-3
  )
