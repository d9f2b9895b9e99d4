"""Tests of solo_jax/inspection/selection.py."""

import numpy as np

from solo_jax.inspection.selection import Selection
from tests.inspection.conftest import SampleRecords, make_sample


def make_records(counts):
  boxes = [(2 * i, 0, 2 * i + 2, 4) for i in range(max(counts))]
  return SampleRecords([make_sample(boxes[:n]) for n in counts])


def test_images_are_spread_evenly_from_first_to_last():
  records = make_records([1] * 9)
  assert Selection(records, 3).indices.tolist() == [0, 4, 8]
  assert len(Selection(records, 0)) == 9
  assert len(Selection(records, 100)) == 9


def test_the_most_crowded_images_come_along_once():
  records = make_records([1, 5, 1, 1, 7, 1, 1])
  chosen = Selection(records, 2, num_crowded=2)
  assert chosen.indices.tolist() == [0, 1, 4, 6]
  assert [len(s.labels) for s in chosen.samples()] == [1, 5, 7, 1]


def test_samples_are_those_of_the_records():
  sample = make_sample([(3, 4, 9, 8)], labels=[1])
  found = Selection(SampleRecords([sample]), 0).sample(0)
  np.testing.assert_array_equal(found.masks, sample.masks)
  np.testing.assert_array_equal(found.boxes_xyxy, sample.boxes_xyxy)
  assert found.labels.tolist() == [1]
