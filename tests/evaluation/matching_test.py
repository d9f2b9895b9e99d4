"""Tests of solo_jax/evaluation/matching.py, by hand."""

import numpy as np

from solo_jax.evaluation import matching


def match(ious, *, is_crowd=None, is_ignored=None):
  """Matches of one image at IoU 0.5 in one area range."""
  ious = np.array(ious, float)
  num_objects = ious.shape[1]
  none = np.zeros(num_objects, bool)
  is_crowd = none if is_crowd is None else np.array(is_crowd, bool)
  is_ignored = none if is_ignored is None else np.array(is_ignored, bool)
  rows, columns = np.nonzero(ious >= 0.5)
  matched = matching.match(
    (rows, columns, ious[rows, columns]),
    np.zeros(len(ious), np.int64),
    is_crowd,
    (is_ignored | is_crowd)[:, None],
  )
  return matched[:, 0, 0].tolist()


def test_the_first_takes_the_best_and_the_second_what_is_left():
  assert match([[0.6, 0.8], [0.7, 0.9], [0.9, 0.9]]) == [1, 0, -1]


def test_equal_overlaps_match_the_last():
  assert match([[0.7, 0.7], [0.7, 0.7]]) == [1, 0]


def test_a_counted_object_comes_before_a_better_ignored_one():
  assert match([[0.9, 0.6]], is_ignored=[True, False]) == [1]
  assert match([[0.6, 0.9]], is_ignored=[False, True]) == [0]


def test_a_crowd_is_matched_again_and_again():
  ious = [[0.9, 0.8], [0.9, 0.8], [0.9, 0.2]]
  assert match(ious, is_crowd=[True, False]) == [1, 0, 0]


def test_thresholds_are_matched_separately():
  matched = matching.match(
    (np.array([0, 1]), np.array([0, 0]), np.array([0.62, 1.0])),
    np.zeros(2, np.int64),
    np.zeros(1, bool),
    np.zeros((1, 1), bool),
  )
  # The first takes the object up to 0.60, above it the second.
  assert matched[0, 0].tolist() == [0, 0, 0] + 7 * [-1]
  assert matched[1, 0].tolist() == [-1, -1, -1] + 7 * [0]


def test_precision_by_hand():
  is_hit = np.array([True, False, True])[:, None, None]
  is_hit = np.broadcast_to(is_hit, (3, 1, 10))
  precision, score, recall = matching.precision_table(
    np.array([0.9, 0.8, 0.7]), is_hit, np.zeros_like(is_hit), np.array([4])
  )
  # Right 1 of 1, 1 of 2, 2 of 3: recalls 1/4 and 2/4, then nothing.
  expected = 26 * [1] + 25 * [2 / 3] + 50 * [0]
  np.testing.assert_allclose(precision[0, :, 0], expected, rtol=1e-12)
  np.testing.assert_allclose(score[9, :, 0], 26 * [0.9] + 25 * [0.7] + 50 * [0])
  np.testing.assert_array_equal(recall, np.full((10, 1), 0.5))
