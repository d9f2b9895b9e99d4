"""Tests of solo_jax/scoring/segments.py."""

import types as python_types

import numpy as np
import pytest

from solo_jax import types
from solo_jax.data.coco_panoptic import CocoPanoptic
from solo_jax.data.panoptic_files import find_coco
from solo_jax.data.records import open_records, read_sample
from solo_jax.errors import UserError
from solo_jax.scoring.records import check_things, instances_of
from solo_jax.scoring.segments import evaluate_segments, truth_map
from tests.panoptic_source import IDS, write_panoptic


@pytest.fixture(scope="module")
def records(tmp_path_factory):
  folder = tmp_path_factory.mktemp("panoptic")
  splits = find_coco(str(write_panoptic(folder / "coco")))
  CocoPanoptic(data_dir=str(folder), splits=splits).prepare()
  return open_records(str(folder), "coco_panoptic/2017", "train")


def make_map(ids, labels):
  """A map of the given ids, whose labels are listed."""
  segments = [
    types.Segment(id=key, label=label, score=1.0, is_thing=label == 0)
    for key, label in labels.items()
  ]
  return types.SegmentMap(ids=np.asarray(ids, np.int32), segments=segments)


PERFECT = dict(
  panoptic=make_map(
    np.select([IDS == 9, IDS == 70000, IDS == 3], [1, 2, 3]), {1: 1, 2: 0, 3: 0}
  ),
  semantic=make_map(np.where(IDS == 9, 2, 1), {1: 0, 2: 1}),
)


def test_truth_of_a_record(records):
  ids, segments = truth_map(read_sample(records[0]))
  np.testing.assert_array_equal(ids, PERFECT["panoptic"].ids)
  assert segments == {1: (1, False), 2: (0, False), 3: (0, False)}


def test_perfect_maps(records):
  # The semantic map says something of void pixels: that does not count.
  metrics = evaluate_segments(lambda image: PERFECT, records)
  assert metrics.pop("num_PQ_classes") == 2
  assert set(metrics.values()) == {1.0} and len(metrics) == 10


def test_an_empty_panoptic_map_scores_zero(records):
  found = PERFECT | dict(panoptic=make_map(np.zeros_like(IDS), {}))
  metrics = evaluate_segments(lambda image: found, records)
  assert metrics["PQ"] == metrics["SQ_things"] == metrics["RQ_stuff"] == 0
  assert metrics["mean_IoU"] == 1


def test_panoptic_and_semantic_metrics_by_hand(records):
  # One of two things is found and stuff with 2 of 3 pixels and one of a thing.
  ids = [[0, 1, 2, 2], [0, 1, 0, 1]]
  found = dict(
    panoptic=make_map(ids, {1: 1, 2: 0}),
    semantic=make_map(np.full(IDS.shape, 1), {1: 0}),
  )
  metrics = evaluate_segments(lambda image: found, records)
  # Stuff has IoU 2 / 4, which is no match; things one hit and one miss.
  np.testing.assert_allclose(metrics["PQ_things"], 1 / 1.5)
  assert metrics["PQ_stuff"] == 0
  np.testing.assert_allclose(metrics["PQ"], 0.5 / 1.5)
  np.testing.assert_allclose(metrics["mean_IoU"], (3 / 6 + 0) / 2)


def test_a_corrupt_image_is_logged_and_left_out(records, caplog):
  class OneSpoiled(list):
    class_names, is_thing = records.class_names, records.is_thing

  spoiled = records[0] | dict(image=b"spoiled")
  both = OneSpoiled([records[0], spoiled])
  metrics = evaluate_segments(lambda image: PERFECT, both)
  assert metrics["PQ"] == metrics["mean_IoU"] == 1
  (line,) = [x for x in caplog.messages if "cannot be decoded" in x]
  assert "left out of panoptic quality and mean IoU" in line


def test_average_precision_is_of_things(records):
  dataset = instances_of(records)
  assert [x["name"] for x in dataset["categories"]] == ["person"]
  assert {x["category_id"] for x in dataset["annotations"]} == {1}
  assert len(dataset["annotations"]) == 4 and len(dataset["images"]) == 2


def test_a_config_with_other_things_is_refused(records):
  def method(is_thing, decode_panoptic=print):
    return python_types.SimpleNamespace(
      decode_panoptic=decode_panoptic, is_thing=is_thing
    )

  check_things(method((True, False)), records)
  check_things(method((True, True), None), records)
  with pytest.raises(UserError, match=r"2 classes.*decode.things=\(0,\)"):
    check_things(method((True, True)), records)
