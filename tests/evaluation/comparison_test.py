"""Tests of solo_jax/evaluation/comparison.py and matching.py: pycocotools.

The evaluation must equal pycocotools' in every table, not only in the metrics.
"""

import contextlib
import copy
import io

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from solo_jax.evaluation import coco_metrics
from solo_jax.evaluation.comparison import Truth


class Federated(COCOeval):
  """pycocotools, for images whose classes are not annotated exhaustively."""

  def evaluateImg(self, imgId, catId, aRng, maxDet):  # noqa: N802, N803
    found = super().evaluateImg(imgId, catId, aRng, maxDet)
    listed = self.cocoGt.imgs[imgId].get("not_exhaustive_category_ids", ())
    if found is not None and catId in listed:
      found["dtIgnore"] = found["dtIgnore"] | (found["dtMatches"] == 0)
    return found


def by_pycocotools(dataset, results, kind, max_detections):
  """Tables of pycocotools, whose ids must not be 0."""
  dataset = copy.deepcopy(dataset)
  for number, annotation in enumerate(dataset["annotations"], 1):
    annotation["id"] = number
  with contextlib.redirect_stdout(io.StringIO()):
    truth = COCO()
    truth.dataset = dataset
    truth.createIndex()
    dropped = {"segm": "bbox", "bbox": "segmentation"}[kind]
    kept = [{k: v for k, v in r.items() if k != dropped} for r in results]
    found = truth.loadRes(copy.deepcopy(kept)) if kept else COCO()
    evaluation = Federated(truth, found, kind)
    evaluation.params.maxDets = [max_detections]
    evaluation.evaluate()
    evaluation.accumulate()
  return evaluation.eval


def assert_equal(dataset, results, max_detections=100):
  compared = coco_metrics.compare(
    dataset, results, max_detections=max_detections
  )
  for comparison, kind in zip(compared, ("segm", "bbox"), strict=True):
    expected = by_pycocotools(dataset, results, kind, max_detections)
    np.testing.assert_array_equal(
      comparison.precision, expected["precision"][..., -1]
    )
    np.testing.assert_array_equal(
      comparison.recall, expected["recall"][..., -1]
    )
    np.testing.assert_array_equal(
      comparison.score_table, expected["scores"][..., -1]
    )
  return compared[0]


def clutter(scenes, seed, num_images=4):
  """Overlapping objects of all sizes, crowds, ties of scores and overlaps."""
  rng = np.random.default_rng(seed)
  built, names = scenes("cat", "dog", "cow"), ("cat", "dog", "cow")
  for image_id in rng.permutation(100)[:num_images]:
    image_id = int(image_id)
    built.image(image_id)
    for _ in range(int(rng.integers(0, 9))):
      box = [int(x) for x in (*rng.integers(0, 20, 2), *rng.integers(3, 40, 2))]
      name = names[rng.integers(3)]
      for _ in range(1 + int(rng.random() < 0.3)):  # some twice
        crowd = int(rng.random() < 0.15)
        built.truth(name, tuple(box), image_id, iscrowd=crowd)
      for _ in range(int(rng.integers(0, 5))):
        moved = np.array(box) + rng.integers(-2, 3, 4).clip(-np.array(box) // 2)
        moved = tuple(int(x) for x in np.maximum(moved, (0, 0, 1, 1)))
        score = float(rng.integers(1, 6) / 5)
        built.found(names[rng.integers(3)], moved, score, image_id)
        built.found(name, tuple(box), score, image_id)
  # Size classes by annotated areas, some on the limits.
  for annotation in built.dataset["annotations"]:
    if rng.random() < 0.5:
      area = rng.choice([10, 32**2, 32**2 + 1, 96**2, 1e5])
      annotation["area"] = float(area)
  return built


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("max_detections", [3, 100])
def test_equals_pycocotools_with_crowds_ties_and_sizes(
  scenes, seed, max_detections
):
  built = clutter(scenes, seed)
  masks = assert_equal(built.dataset, built.results, max_detections)
  values = masks.precision[masks.precision > -1]
  assert 0 < values.mean() < 1


@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocotools_in_a_federated_dataset(scenes, seed):
  built = clutter(scenes, seed)
  for image, listed in zip(
    built.dataset["images"], ([3], [], [10, 17], [3, 10, 17]), strict=True
  ):
    image["not_exhaustive_category_ids"] = listed
  assert_equal(built.dataset, built.results)


def test_equals_pycocotools_without_objects_detections_or_both(scenes):
  built = clutter(scenes, 1)
  for annotations in (built.dataset["annotations"], []):
    for results in (built.results, []):
      dataset = built.dataset | {"annotations": annotations}
      if results:
        assert_equal(dataset, results)
        continue
      masks, boxes = coco_metrics.compare(dataset, [], max_detections=9)
      for table in (masks.precision, boxes.recall):
        assert set(np.unique(table)) <= ({-1, 0} if annotations else {-1})


def test_any_form_of_segmentation_is_read(scenes):
  polygon = [
    [2.0, 3.0, 30.0, 3.0, 30.0, 20.0, 2.0, 20.0],
    [40, 40, 50, 40, 45, 50],
  ]
  built = scenes().image(1).truth("cat", (0, 0, 10, 10))
  built.truth("cat", (0, 0, 10, 10)).truth("cat", (0, 0, 10, 10))
  annotations = built.dataset["annotations"]
  annotations[0]["segmentation"] = polygon
  annotations[1]["segmentation"] = dict(size=[60, 80], counts=[60, 30, 4710])
  before = copy.deepcopy(built.dataset)
  encoded = [a["segmentation"] for a in Truth(built.dataset).annotations]
  assert built.dataset == before
  assert coco_mask.area(encoded[1]) == 30
  parts = coco_mask.decode(coco_mask.frPyObjects(polygon, 60, 80)).max(2)
  np.testing.assert_array_equal(coco_mask.decode(encoded[0]), parts)
  assert encoded[2] == annotations[2]["segmentation"]


def test_entries_of_unlisted_images_and_classes_are_left_out(scenes):
  built = (
    scenes().image(1).truth("cat", (0, 0, 10, 10)).truth("dog", (0, 0, 9, 9))
  )
  built.truth("cat", (0, 0, 10, 10), 2).found("cat", (0, 0, 10, 10), 0.5)
  del built.dataset["categories"][1]
  masks, _ = coco_metrics.compare(
    built.dataset, built.results, max_detections=100
  )
  assert masks.truth.rows.tolist() == [0]
  assert masks.precision[..., 0, 0].min() == pytest.approx(1)
