"""Tests of solo_jax/scoring/records.py."""

import json
import threading

import cv2
import numpy as np
import pytest

from solo_jax import types
from solo_jax.conversion import classes
from solo_jax.errors import UserError
from solo_jax.evaluation import coco_metrics, rle
from solo_jax.inference.stage_clock import StageClock
from solo_jax.scoring.records import (
  MAX_WAITING,
  NO_CATEGORY,
  check_classes,
  count_dropped,
  detect_records,
  evaluate_records,
)


class ThresholdPredictor:
  """Finds bright pixels; yields images out of order, as the real one may."""

  def __init__(self):
    self.clock = StageClock()

  def padded_size(self, size):
    return size

  def stream(self, images):
    found = [(i, self.detect(image)) for i, image in enumerate(images)]
    yield from reversed(found)

  def detect(self, image):
    mask = image[..., 0] > 200
    num = int(mask.any())
    rows, columns = np.nonzero(mask)
    box = (
      [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
      if num
      else []
    )
    return types.Instances(
      masks=mask[None][:num],
      scores=np.full(num, 0.9, np.float32),
      labels=np.ones(num, np.int32),
      boxes_xyxy=np.array(box, np.float32).reshape(num, 4),
    )


class MemoryRecords(list):
  """Raw records in memory with the attributes of `Records`."""

  class_names = ("cat", "dog")
  category_ids = (3, 44)
  path = "memory"
  federated = None
  is_thing = ()

  @property
  def image_ids(self):
    return np.array([record["image_id"] for record in self])

  @property
  def num_objects(self):
    return np.array([len(record["objects"]["rle"]) for record in self])

  @property
  def num_crowds(self):
    return 0 * self.num_objects

  @property
  def heights(self):
    return np.array([record["height"] for record in self])

  @property
  def widths(self):
    return np.array([record["width"] for record in self])


def make_record(image_id, *, is_empty=False, is_corrupt=False):
  """A black 40 x 60 image with one bright 'dog', which is its annotation."""
  mask = np.zeros((1, 40, 60), bool)
  if not is_empty:
    mask[0, 5:15, image_id % 40 : image_id % 40 + 12] = True
  image = np.repeat(mask[0, ..., None] * np.uint8(255), 3, axis=2)
  encoded = cv2.imencode(".png", image)[1].tobytes()
  num = int(not is_empty)
  box = np.array([image_id % 40, 5, 12, 10], np.float64)
  return dict(
    image=encoded[: len(encoded) // 2] if is_corrupt else encoded,
    image_id=image_id,
    file_name=f"{image_id}.png".encode(),
    height=40,
    width=60,
    objects=dict(
      annotation_id=[image_id * 10] * num,
      label=[1] * num,
      is_crowd=[False] * num,
      rle=[x["counts"].encode() for x in rle.encode(mask)][:num],
      area=[np.float64(120).tobytes()] * num,
      bbox=[box.tobytes()] * num,
    ),
  )


def test_perfect_predictor_with_original_ids_in_record_order():
  records = MemoryRecords(
    [make_record(900), make_record(17), make_record(4, is_empty=True)]
  )
  seen = []
  metrics, results = evaluate_records(
    ThresholdPredictor(),
    records,
    max_detections=100,
    on_image=lambda: seen.append(1),
  )
  assert metrics.mask_AP == pytest.approx(1)
  assert metrics.class_mask_AP == {"cat": None, "dog": pytest.approx(1)}
  assert [r["image_id"] for r in results] == [900, 17]
  assert {r["category_id"] for r in results} == {44}
  assert len(seen) == 3
  json.dumps(results)


def test_masks_are_encoded_while_the_next_images_are_detected(monkeypatch):
  num = MAX_WAITING + 3
  records = MemoryRecords([make_record(i + 1) for i in range(num)])
  is_detecting = [threading.Event() for _ in range(num)]

  class ForwardPredictor(ThresholdPredictor):
    def stream(self, images):
      for i, image in enumerate(images):
        is_detecting[i].set()
        yield i, self.detect(image)

  def encode(instances, image_id, category_ids):
    following = min(int(image_id), num - 1)  # ids start at 1
    assert is_detecting[following].wait(timeout=600)
    return to_results(instances, image_id, category_ids)

  to_results = coco_metrics.to_results
  monkeypatch.setattr(coco_metrics, "to_results", encode)
  metrics, results = evaluate_records(
    ForwardPredictor(), records, max_detections=100
  )
  assert [r["image_id"] for r in results] == list(range(1, num + 1))
  assert metrics.mask_AP == pytest.approx(1)


def test_failed_encoding_is_reported(monkeypatch):
  def encode(*args):
    raise MemoryError("no room")

  monkeypatch.setattr(coco_metrics, "to_results", encode)
  with pytest.raises(MemoryError, match="no room"):
    detect_records(ThresholdPredictor(), MemoryRecords([make_record(1)]))


def test_corrupt_image_counts_as_missed():
  records = MemoryRecords([make_record(1), make_record(2, is_corrupt=True)])
  metrics, results = evaluate_records(
    ThresholdPredictor(), records, max_detections=100
  )
  assert [r["image_id"] for r in results] == [1]
  # Recall 1/2 at precision 1: 51 of 101 points.
  assert metrics.mask_AP == pytest.approx(51 / 101)


def test_nothing_detected_is_zero():
  records = MemoryRecords([make_record(1)])
  predictor = ThresholdPredictor()
  predictor.detect = lambda image: ThresholdPredictor().detect(0 * image)
  metrics, results = evaluate_records(predictor, records, max_detections=100)
  assert results == [] and metrics.mask_AP == 0


def test_dropped_candidates_are_counted_in_all_processes(monkeypatch):
  monkeypatch.setattr("solo_jax.parallel.gather_json", lambda own: [own, 5])
  predictor = ThresholdPredictor()
  predictor.num_dropped = 2
  assert count_dropped(predictor) == 7


def test_same_classes_pass():
  check_classes(
    MemoryRecords(), class_names=("cat", "dog"), category_ids=(3, 44)
  )


@pytest.mark.parametrize(
  ("class_names", "category_ids", "message"),
  [
    (("cat", "cow"), (3, 44), r"label 1: \(44, 'cow'\) in the checkpoint"),
    (("cat", "dog"), (3, 45), r"label 1: \(45, 'dog'\) in the checkpoint"),
    (("dog", "cat"), (44, 3), r"label 0: \(44, 'dog'\) in the checkpoint"),
    (("cat",), (3,), r"has 1 class \(id, name\), the data in memory 2"),
  ],
)
def test_other_classes_are_refused(class_names, category_ids, message):
  with pytest.raises(UserError, match=message):
    check_classes(
      MemoryRecords(), class_names=class_names, category_ids=category_ids
    )


def test_outputs_that_no_class_belongs_to_are_left_out():
  check_classes(
    MemoryRecords(),
    class_names=("cat", NO_CATEGORY, "dog"),
    category_ids=(3, 4, 44),
  )
  assert NO_CATEGORY == classes.NO_CATEGORY
  # It finds label 1 only: here the output that no class belongs to, then the
  # one of the first class.
  records, predictor = MemoryRecords([make_record(1)]), ThresholdPredictor()
  (found,) = detect_records(predictor, records)
  assert found["category_id"] == 44
  assert detect_records(predictor, records, category_ids=(3, 4, 44)) == []
  assert detect_records(predictor, records, category_ids=(4, 3, 44)) == [
    found | dict(category_id=3)
  ]
