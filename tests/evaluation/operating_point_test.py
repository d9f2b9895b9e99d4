"""Tests of solo_jax/evaluation/operating_point.py."""

import numpy as np
import pytest

from solo_jax.evaluation import coco_metrics, errors, operating_point


def judge(scenes):
  masks, _ = coco_metrics.compare(
    scenes.dataset, scenes.results, max_detections=100
  )
  return masks, errors.find_outcomes(masks)


def test_confusion_matrix_by_hand(scenes):
  built = scenes().image(1).image(2)
  built.truth("cat", (0, 0, 10, 10)).truth("dog", (20, 0, 10, 10))
  built.truth("dog", (40, 0, 10, 10)).truth("dog", (0, 20, 10, 10), 2)
  built.found("cat", (0, 0, 10, 10), 0.9)
  built.found("cat", (20, 0, 10, 10), 0.8)  # a dog
  built.found("dog", (20, 0, 10, 10), 0.7)  # it is taken already
  built.found("dog", (40, 0, 10, 10), 0.2)  # below the threshold
  built.found("cat", (50, 40, 9, 9), 0.6)
  built.found("dog", (0, 20, 10, 8), 0.6, 2)
  masks, outcomes = judge(built)
  found = operating_point.confusion_matrix(masks, outcomes, 0.3)
  assert found.tolist() == [
    [1, 0, 0],  # cats: as cat, as dog, missed
    [1, 1, 1],  # dogs
    [1, 1, 0],  # nothing
  ]


def test_confusion_takes_the_best_overlap_and_leaves_crowds_out(scenes):
  built = scenes().image(1)
  built.truth("dog", (0, 0, 10, 14)).truth("cat", (0, 0, 10, 10))
  built.truth("cat", (40, 0, 30, 30), iscrowd=1)
  built.found("cat", (0, 0, 10, 10), 0.9)  # IoU 1 and 10 / 14
  built.found("cat", (45, 5, 5, 5), 0.8)  # in the crowd
  masks, outcomes = judge(built)
  found = operating_point.confusion_matrix(masks, outcomes, 0.3)
  assert found.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_confusion_of_nothing(scenes):
  masks, outcomes = judge(scenes().image(1))
  found = operating_point.confusion_matrix(masks, outcomes, 0.3)
  assert found.tolist() == [[0, 0, 0]] * 3


def test_calibration_by_hand(scenes):
  built = scenes("cat").image(1).truth("cat", (0, 0, 10, 10))
  built.truth("cat", (20, 0, 10, 10))
  built.found("cat", (0, 0, 10, 10), 1.0).found("cat", (40, 0, 9, 9), 0.92)
  built.found("cat", (20, 0, 10, 10), 0.3)
  calibration = operating_point.calibrate(judge(built)[1])
  # Scores 0.92 and 1 share the last tenth: mean 0.96, half of them right.
  assert calibration.counts.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 2]
  assert calibration.scores[[3, 9]] == pytest.approx([0.3, 0.96])
  assert calibration.precisions[[3, 9]] == pytest.approx([1, 0.5])
  assert np.isnan(calibration.precisions[0])
  assert calibration.error == pytest.approx((0.7 + 2 * 0.46) / 3)


def test_calibration_without_detections(scenes):
  built = scenes("cat").image(1).truth("cat", (0, 0, 10, 10))
  assert operating_point.calibrate(judge(built)[1]).error is None


def test_sweep_by_hand(scenes):
  built = scenes("cat").image(1).truth("cat", (0, 0, 10, 10))
  built.truth("cat", (20, 0, 10, 10))
  built.found("cat", (0, 0, 10, 10), 0.5).found("cat", (40, 0, 9, 9), 0.7)
  found = operating_point.sweep(judge(built)[1], np.array([0.0, 0.5, 0.6, 0.9]))
  np.testing.assert_allclose(found["precision"], [0.5, 0.5, 0, np.nan])
  np.testing.assert_allclose(found["recall"], [0.5, 0.5, 0, 0])
  np.testing.assert_allclose(found["f1"], [0.5, 0.5, 0, 0])


def test_images_by_hand(scenes):
  built = scenes().image(1).image(2).image(3).image(4)
  built.truth("cat", (0, 0, 10, 10)).found("cat", (0, 0, 10, 8), 0.9)  # IoU 0.8
  built.truth("cat", (0, 0, 10, 10), 2).truth("dog", (20, 0, 10, 10), 2)
  built.found("cat", (20, 0, 10, 10), 0.8, 2).found("cat", (0, 0, 5, 5), 0.2, 2)
  built.found("dog", (0, 0, 9, 9), 0.4, 3).found("dog", (20, 0, 9, 9), 0.5, 3)
  masks, outcomes = judge(built)
  judged = operating_point.judge_images([1, 2, 3, 4], outcomes, 0.3)
  rows = [
    (x.quality, x.num_objects, x.num_found, x.num_mistakes, x.num_missed)
    for x in judged
  ]
  assert rows == [
    (pytest.approx(0.7), 1, 1, 0, 0),
    (0, 2, 1, 1, 2),
    (0, 0, 2, 2, 0),
    (1, 0, 0, 0, 0),
  ]
  assert [x.confusion for x in judged] == pytest.approx([0, 0.8, 0.9, 0])
  chosen = operating_point.choose_images(judged, 2)
  ids = {kind: [x.image_id for x in images] for kind, images in chosen.items()}
  # Image 4 has nothing to see; 2 has more mistakes than 3.
  assert ids == {"best": [1, 2], "worst": [2, 3], "confusing": [3, 2]}
