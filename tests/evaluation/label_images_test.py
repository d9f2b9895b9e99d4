"""Tests of solo_jax/evaluation/label_images.py."""

import numpy as np

from solo_jax.evaluation.label_images import flatten


def crop(top, bottom, left, right):
  rows, columns = slice(top, bottom), slice(left, right)
  return rows, columns, np.ones((bottom - top, right - left), bool)


def test_the_best_mask_keeps_a_pixel():
  owner = flatten([crop(0, 2, 0, 3), crop(0, 2, 2, 5)], (2, 6))
  np.testing.assert_array_equal(owner, [[1, 1, 1, 2, 2, 0]] * 2)


def test_what_is_left_of_a_hidden_mask_is_no_object():
  """More than half of the second is hidden, half of the third."""
  masks = [crop(0, 2, 0, 4), crop(0, 2, 1, 6), crop(0, 1, 2, 6)]
  owner = flatten(masks, (2, 6))
  expected = [[1, 1, 1, 1, 3, 3], [1, 1, 1, 1, 0, 0]]
  np.testing.assert_array_equal(owner, expected)


def test_fewer_masks_leave_the_first_ones_as_they_are():
  rng = np.random.default_rng(0)
  masks = []
  for _ in range(30):
    top, left = rng.integers(0, 20, 2)
    height, width = rng.integers(1, 12, 2)
    mask = rng.random((height, width)) < 0.7
    masks.append((slice(top, top + height), slice(left, left + width), mask))
  owner = flatten(masks, (32, 32))
  part = flatten(masks[:11], (32, 32))
  np.testing.assert_array_equal(part, np.where(owner <= 11, owner, part))
  for i in range(11):
    np.testing.assert_array_equal(part == i + 1, owner == i + 1)


def test_no_masks_and_an_empty_one():
  assert not flatten([], (3, 4)).any()
  assert not flatten(
    [(slice(0, 0), slice(0, 0), np.ones((0, 0), bool))], (3, 4)
  ).any()
