"""Tests of solo_jax/evaluation/coco_metrics.py."""

import contextlib
import copy
import io
import json
import math
import pathlib

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from solo_jax import types
from solo_jax.evaluation import coco_metrics, rle

SAMPLE = (
  pathlib.Path(__file__).parents[3]
  / "shared/data/coco_sample/annotations/instances_val2017.json"
)


def square(left, top, side, size=(40, 60)):
  mask = np.zeros((1, *size), bool)
  mask[0, top : top + side, left : left + side] = True
  return mask


def annotation(key, category_id, mask, image_id=7, area=None):
  rows, columns = np.nonzero(mask[0])
  left, top = columns.min(), rows.min()
  width, height = columns.max() + 1 - left, rows.max() + 1 - top
  return dict(
    id=key,
    image_id=image_id,
    category_id=category_id,
    iscrowd=0,
    area=float(mask.sum()) if area is None else area,
    bbox=[float(left), float(top), float(width), float(height)],
    segmentation=rle.encode(mask)[0],
  )


def dataset(annotations):
  return dict(
    images=[dict(id=i, height=40, width=60) for i in (7, 9)],
    annotations=annotations,
    categories=[dict(id=3, name="cat"), dict(id=44, name="dog")],
  )


def instances(masks, scores, labels):
  masks = np.concatenate(masks)
  boxes = []
  for mask in masks:
    rows, columns = np.nonzero(mask)
    boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
  return types.Instances(
    masks=masks,
    scores=np.array(scores, np.float32),
    labels=np.array(labels),
    boxes_xyxy=np.array(boxes, np.float32),
  )


def test_results_keep_the_original_ids():
  found = instances([square(3, 5, 10), square(20, 1, 6)], [0.9, 0.5], [1, 0])
  results = coco_metrics.to_results(found, np.int64(9), (3, 44))
  assert [r["category_id"] for r in results] == [44, 3]
  assert [r["image_id"] for r in results] == [9, 9]
  assert results[0]["bbox"] == [3, 5, 10, 10]
  assert results[0]["box_source"] == "mask"
  assert results[1]["score"] == 0.5
  assert json.loads(json.dumps(results)) == results
  decoded = rle.decode([r["segmentation"] for r in results], (40, 60))
  np.testing.assert_array_equal(decoded, found.masks)


@pytest.mark.parametrize("ids", [(1, 2), (0, 1), (-3, 0), (2**40, 7)])
def test_perfect_detections(ids):
  masks = [square(3, 5, 10), square(20, 1, 6)]
  truth = dataset(
    [annotation(ids[0], 44, masks[0]), annotation(ids[1], 3, masks[1])]
  )
  results = coco_metrics.to_results(
    instances(masks, [0.9, 0.5], [1, 0]), 7, (3, 44)
  )
  metrics = coco_metrics.evaluate(truth, results, max_detections=100)
  assert metrics.mask_AP == pytest.approx(1)
  assert metrics.mask_AP50 == pytest.approx(1)
  assert metrics.mask_AR == pytest.approx(1)
  assert metrics.box_AP == pytest.approx(1)
  assert metrics.mask_AP_S == pytest.approx(1)
  assert metrics.mask_AP_M is None and metrics.mask_AP_L is None


def test_iou_thresholds_by_hand():
  # 10 x 10 against 10 x 8 of it: IoU 0.8, a hit at 0.50, 0.55, ... 0.80.
  truth_mask = square(3, 5, 10)
  found_mask = truth_mask.copy()
  found_mask[0, 5:7] = False
  metrics = coco_metrics.evaluate(
    dataset([annotation(1, 3, truth_mask)]),
    coco_metrics.to_results(instances([found_mask], [0.9], [0]), 7, (3, 44)),
    max_detections=100,
  )
  assert metrics.mask_AP == pytest.approx(0.7)
  assert metrics.mask_AP50 == pytest.approx(1)
  assert metrics.mask_AP75 == pytest.approx(1)
  assert metrics.box_AP == pytest.approx(0.7)


def test_predicted_boxes_are_scored_as_boxes():
  """Boxes of IoU 0.8 with masks that are perfect, and the other way round."""
  truth = dataset([annotation(1, 3, square(3, 5, 10))])
  found = instances([square(3, 5, 10)], [0.9], [0])
  low = np.float32([[3, 7, 13, 15]])
  for masks, boxes, mask_ap, box_ap in (
    (found.masks, low, 1, 0.7),
    (found.masks & (np.arange(40) >= 7)[:, None], found.boxes_xyxy, 0.7, 1),
  ):
    predicted = types.Instances(
      masks=masks,
      scores=found.scores,
      labels=found.labels,
      boxes_xyxy=boxes,
      mask_boxes_xyxy=np.float32([[3, 5, 13, 15]]),
    )
    results = coco_metrics.to_results(predicted, 7, (3, 44))
    assert results[0]["box_source"] == "predicted"
    np.testing.assert_array_equal(
      rle.decode([results[0]["segmentation"]], (40, 60)), masks
    )
    metrics = coco_metrics.evaluate(truth, results, max_detections=100)
    assert metrics.box_source == "predicted"
    assert metrics.mask_AP == pytest.approx(mask_ap)
    assert metrics.box_AP == pytest.approx(box_ap)
    assert "box_source" not in metrics.scalars()  # which are numbers


def test_a_class_without_truth_is_left_out():
  mask = square(3, 5, 10)
  metrics = coco_metrics.evaluate(
    dataset([annotation(1, 3, mask)]),
    coco_metrics.to_results(
      instances([mask, square(30, 5, 9)], [0.9, 0.8], [0, 1]), 7, (3, 44)
    ),
    max_detections=100,
  )
  assert metrics.mask_AP == pytest.approx(1)
  assert metrics.class_mask_AP == {"cat": pytest.approx(1), "dog": None}


def test_nothing_detected_is_zero():
  truth = dataset([annotation(1, 3, square(3, 5, 10))])
  metrics = coco_metrics.evaluate(truth, [], max_detections=100)
  assert metrics.mask_AP == 0 and metrics.box_AP == 0 and metrics.mask_AR == 0
  assert metrics.class_mask_AP == {"cat": 0, "dog": None}


def test_no_truth_at_all_is_undefined():
  metrics = coco_metrics.evaluate(dataset([]), [], max_detections=100)
  assert set(metrics.scalars().values()) == {None}
  assert json.loads(json.dumps(metrics.scalars()))["mask_AP"] is None


def test_size_classes_follow_the_annotated_area():
  # A thin frame: its box would be medium, its area is small.
  mask = square(2, 2, 35)
  mask[0, 4:35, 4:35] = False
  truth = dataset([annotation(1, 3, mask)])
  results = coco_metrics.to_results(instances([mask], [0.9], [0]), 7, (3, 44))
  metrics = coco_metrics.evaluate(truth, results, max_detections=100)
  assert metrics.mask_AP_S == pytest.approx(1)
  assert metrics.mask_AP_M is None


def test_max_detections_beyond_a_hundred_count():
  size = (40, 300)
  masks = [square(2 * (i % 140), 4 * (i // 140), 2, size) for i in range(120)]
  truth = dict(
    images=[dict(id=7, height=40, width=300)],
    annotations=[annotation(i + 1, 3, m) for i, m in enumerate(masks)],
    categories=[dict(id=3, name="cat")],
  )
  results = coco_metrics.to_results(
    instances(masks, np.linspace(1, 0.1, 120), np.zeros(120, int)), 7, (3,)
  )
  assert coco_metrics.evaluate(
    truth, results, max_detections=500
  ).mask_AP == pytest.approx(1)
  # 100 of 120 found: precision 1 up to recall 0.833, 84 of 101 points.
  assert coco_metrics.evaluate(
    truth, results, max_detections=100
  ).mask_AP == pytest.approx(84 / 101)


def test_leaves_its_arguments_alone():
  mask = square(3, 5, 10)
  truth = dataset([annotation(1, 3, mask)])
  results = coco_metrics.to_results(instances([mask], [0.9], [0]), 7, (3, 44))
  before = copy.deepcopy((truth, results))
  coco_metrics.evaluate(truth, results, max_detections=100)
  assert (truth, results) == before


@pytest.mark.parametrize(
  ("field", "value"), [("image_id", 8), ("category_id", 2)]
)
def test_refuses_unknown_ids(field, value):
  mask = square(3, 5, 10)
  results = coco_metrics.to_results(instances([mask], [0.9], [0]), 7, (3, 44))
  results[0][field] = value
  with pytest.raises(ValueError, match=rf"results name {field} \[{value}\]"):
    coco_metrics.evaluate(
      dataset([annotation(1, 3, mask)]), results, max_detections=100
    )


def perturbed(coco, rng):
  """Detections made of moved, cut and mislabelled ground truth."""
  results = []
  categories = sorted(coco.cats)
  for item in coco.dataset["annotations"]:
    if rng.random() < 0.2:
      continue
    mask = coco.annToMask(item).astype(bool)
    mask = np.roll(mask, rng.integers(-4, 5, 2), (0, 1))
    if rng.random() < 0.3:
      mask[: mask.shape[0] // 2] = False
    category_id = item["category_id"]
    if rng.random() < 0.1:
      category_id = categories[rng.integers(len(categories))]
    if mask.any():
      found = instances([mask[None]], [rng.random()], [0])
      results += coco_metrics.to_results(
        found, item["image_id"], (category_id,)
      )
  return results


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"needs {SAMPLE}")
def test_equals_pycocotools_on_real_images():
  with contextlib.redirect_stdout(io.StringIO()):
    coco = COCO(str(SAMPLE))
    results = perturbed(coco, np.random.default_rng(0))
    expected = {}
    for kind, dropped in (("segm", "bbox"), ("bbox", "segmentation")):
      found = coco.loadRes(
        [{k: v for k, v in r.items() if k != dropped} for r in results]
      )
      evaluation = COCOeval(coco, found, kind)
      evaluation.evaluate()
      evaluation.accumulate()
      evaluation.summarize()
      expected[kind] = evaluation.stats
  metrics = coco_metrics.evaluate(
    json.loads(SAMPLE.read_text()), results, max_detections=100
  )
  segm = expected["segm"]
  assert 0.1 < segm[0] < 0.9
  for name, value in {
    "mask_AP": segm[0],
    "mask_AP50": segm[1],
    "mask_AP75": segm[2],
    "mask_AP_S": segm[3],
    "mask_AP_M": segm[4],
    "mask_AP_L": segm[5],
    "mask_AR": segm[8],
    "box_AP": expected["bbox"][0],
  }.items():
    assert getattr(metrics, name) == pytest.approx(value, abs=1e-12), name
  of_classes = [x for x in metrics.class_mask_AP.values() if x is not None]
  assert math.isclose(np.mean(of_classes), segm[0])


def federated(scenes):
  """Image 1: cats annotated, dogs verified absent, of cows no one knows."""
  built = scenes("cat", "dog", "cow")
  built.image(1, neg_category_ids=[10], not_exhaustive_category_ids=[])
  built.image(2, neg_category_ids=[], not_exhaustive_category_ids=[3])
  for category, frequency in zip(
    built.dataset["categories"], "rcf", strict=True
  ):
    category["frequency"] = frequency
  built.truth("cat", (0, 0, 10, 10)).truth("cow", (0, 0, 10, 10), 2)
  return built.truth("cat", (20, 0, 10, 10), 2)


def test_unjudged_classes_do_not_count(scenes):
  built = federated(scenes)
  built.found("cow", (40, 0, 10, 10), 0.9)  # not looked for in image 1
  built.found("cow", (0, 0, 10, 10), 0.8, 2)
  built.found("dog", (40, 0, 10, 10), 0.9, 2)  # not looked for in image 2
  metrics = coco_metrics.evaluate(
    built.dataset, built.results, max_detections=300
  )
  perfect = pytest.approx(1)
  assert metrics.class_mask_AP == {"cat": 0, "dog": None, "cow": perfect}
  assert metrics.extra == {
    "mask_AP_r": 0,
    "mask_AP_c": None,
    "mask_AP_f": perfect,
  }
  # Without the lists it is an ordinary dataset, where the first cow is wrong.
  for image in built.dataset["images"]:
    del image["neg_category_ids"], image["not_exhaustive_category_ids"]
  ordinary = coco_metrics.evaluate(
    built.dataset, built.results, max_detections=300
  )
  assert ordinary.class_mask_AP["cow"] == pytest.approx(0.5)


def test_unmatched_in_a_partly_annotated_image_are_not_wrong(scenes):
  built = federated(scenes)
  built.found("cat", (40, 0, 10, 10), 0.9, 2).found("cat", (0, 0, 10, 10), 0.5)
  built.found("cat", (20, 0, 10, 10), 0.4, 2)
  metrics = coco_metrics.evaluate(
    built.dataset, built.results, max_detections=300
  )
  assert metrics.class_mask_AP["cat"] == pytest.approx(1)
  # In an image where cats are annotated exhaustively it would be.
  built.found("cat", (40, 0, 10, 10), 0.9, 1)
  metrics = coco_metrics.evaluate(
    built.dataset, built.results, max_detections=300
  )
  # Hits no, yes, yes: precision 2 / 3 at every recall.
  assert metrics.class_mask_AP["cat"] == pytest.approx(2 / 3)


def test_the_limit_of_a_federated_image_is_over_all_classes(scenes):
  built = federated(scenes)
  built.found("dog", (40, 0, 10, 10), 0.9).found("dog", (60, 0, 10, 10), 0.8)
  built.found("cat", (0, 0, 10, 10), 0.7).found("cat", (20, 0, 10, 10), 0.6, 2)
  for limit, expected in ((2, 51 / 101), (3, 1)):
    metrics = coco_metrics.evaluate(
      built.dataset, built.results, max_detections=limit
    )
    assert metrics.class_mask_AP["cat"] == pytest.approx(expected)
