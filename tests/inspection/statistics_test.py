"""Tests of solo_jax/inspection/statistics.py."""

import dataclasses

import numpy as np
import pytest

from solo_jax.inspection.selection import Selection
from solo_jax.inspection.statistics import (
  compare_splits,
  examine,
  find_unused,
  list_prepared,
  unique_names,
)
from tests.inspection.conftest import SampleRecords, make_sample


def look(samples, split="train"):
  return examine(Selection(SampleRecords(samples, split), 0))


def test_counts_of_a_split_by_hand():
  samples = [
    make_sample([(0, 0, 4, 9), (10, 10, 20, 20)], (40, 30), labels=[1, 0]),
    make_sample(
      [(0, 0, 8, 2), (5, 5, 9, 9)], (30, 50), labels=[0, 0], crowds=[1]
    ),
    make_sample([], (30, 30)),
  ]
  found = look(samples)
  assert (found.num_images, found.num_instances) == (3, 3)
  assert (found.num_crowds, found.num_empty, found.most_instances) == (1, 1, 2)
  assert found.short_sides.tolist() == [30, 30, 30]
  assert found.long_sides.tolist() == [40, 50, 30]
  assert found.num_portrait == 1
  assert found.instances_of_class == {"thing": 2, "other": 1}
  assert found.images_of_class == {"thing": 2, "other": 1}
  np.testing.assert_allclose(sorted(found.object_sizes), [4, 6, 10])
  assert sorted(found.object_extents) == [8, 9, 10]
  assert found.num_grey == 3 and found.num_16_bit == 0
  assert found.findings == []


def test_colour_is_distinguished_from_grey():
  sample = make_sample([])
  image = sample.image.copy()
  image[0, 0] = (1, 2, 3)
  colored = dataclasses.replace(sample, image=image)
  assert look([sample, colored]).num_grey == 1


@pytest.mark.parametrize(
  ("changed", "finding"),
  [
    (dict(areas=np.array([100.0, 300.0])), "area differs"),
    (dict(masks=np.zeros((2, 64, 64), bool)), "mask is empty"),
  ],
)
def test_annotations_that_look_wrong(changed, finding):
  sample = make_sample([(0, 0, 10, 10), (30, 30, 40, 40)])
  (line, *_) = look([dataclasses.replace(sample, **changed)]).findings
  assert finding in line and "annotation 2" in line and "7.png" in line


def test_the_same_object_twice_is_found_within_a_class_only():
  boxes = [(0, 0, 20, 20), (0, 0, 20, 19)]
  (line,) = look([make_sample(boxes)]).findings
  assert "the same object twice" in line and "annotations 1 and 2" in line
  assert look([make_sample(boxes, labels=[0, 1])]).findings == []


def test_a_corrupt_image_is_named_and_counted_out():
  records = SampleRecords([make_sample([(0, 0, 9, 9)])])
  record = records[0] | dict(image=b"\x89PNG broken")

  class Broken(SampleRecords):
    def __getitem__(self, index):
      return record

  found = examine(Selection(Broken(records.samples), 0))
  (line,) = found.findings
  assert "cannot be decoded" in line and "7.png" in line
  assert not len(found.object_sizes) and found.num_examined == 1


def test_splits_are_compared():
  shared = make_sample([(0, 0, 9, 9)], labels=[1])
  other = make_sample([(0, 0, 19, 9)], labels=[0])
  train, validation = look([other]), look([shared], "validation")
  lines = compare_splits(train, validation)
  assert any("evaluated but never trained: 1 class: other" in x for x in lines)
  lines = compare_splits(look([shared, other]), validation)
  assert len(lines) == 1 and "byte for byte" in lines[0]


def test_images_that_are_left_unused_are_reported():
  def part(split, first, last):
    records = SampleRecords([make_sample([])] * (last - first), split)
    records.split_sizes = dict(train=48, validation=12)
    records.image_ids = np.arange(first, last)
    return records

  few, rest = part("train[:8]", 0, 8), part("train[8:]", 8, 48)
  same, unused = find_unused(few, few)
  assert "use the same split, 'train[:8]'" in same
  assert same.endswith("--config.dataset.eval_split=validation takes 12 others")
  assert unused == (
    "trains on 8 of 48 images: dataset.train_split='train[:8]'; "
    "--config.dataset.train_split=train uses all"
  )
  assert find_unused(rest, few) == []  # held out of one split
  whole = part("train", 0, 48)
  assert find_unused(whole, part("validation", 0, 12)) == []
  (line,) = find_unused(whole, part("validation[:5]", 0, 5))
  assert line.startswith("evaluates on 5 of 12 images")


def test_classes_of_one_name_are_two_rows():
  assert unique_names(("cell", "cell", "leaf"), (1, 2, 5)) == [
    "cell (id 1)",
    "cell (id 2)",
    "leaf",
  ]

  sample = make_sample([(0, 0, 4, 9), (10, 10, 20, 20)], labels=[1, 0])
  records = SampleRecords([sample], "train")
  records.class_names, records.category_ids = ("cell", "cell"), (1, 2)
  found = examine(Selection(records, 0))
  assert found.instances_of_class == {"cell (id 1)": 1, "cell (id 2)": 1}


def test_what_prepare_found_is_listed_by_kind():
  metadata = dict(
    problems=["a: lost.", "b: lost."],
    num_problems=2,
    kinds=dict(
      problems=[["lost", 2, "a: lost."]],
      repairs=[["turned", 1, "c"]],
      notes=[["odd", 9, "d"]],
    ),
  )
  assert list_prepared(metadata) == [
    "prepare: skipped: 2 x lost; for example a: lost.",
    "prepare: repaired: 1 x turned; for example c",
    "prepare: note: 9 x odd; for example d",
  ]
  del metadata["kinds"]  # of an older dataset
  metadata["num_problems"] = 5
  assert list_prepared(metadata) == [
    "prepare: a: lost.",
    "prepare: b: lost.",
    "prepare: 5 problems in total",
  ]
