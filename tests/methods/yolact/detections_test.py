"""Tests of solo_jax/methods/yolact/detections.py; values: network_test.py."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from solo_jax.methods.yolact.detections import (
  DetectionSettings,
  find_detections,
)

SETTINGS = DetectionSettings(
  min_score=0.3,
  scored="prior",
  candidates_per_level=None,
  clip_boxes=False,
  top_k=10,
  nms_threshold=0.5,
  across_classes=False,
  max_detections=4,
)
PRIORS = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 60, 10]], "f")


def run(probs, **changes):
  """Boxes are the priors; probabilities of the background and two classes."""
  find = functools.partial(
    find_detections,
    priors=PRIORS,
    level_sizes=(2, 1),
    settings=dataclasses.replace(SETTINGS, **changes),
  )
  return jax.jit(find)(
    np.log(np.asarray(probs, "f")),
    np.zeros((3, 4), "f"),
    np.arange(6, dtype=np.float32).reshape(3, 2),
    np.array([50, 50]),
  )


PROBS = [[0.2, 0.6, 0.2], [0.4, 0.35, 0.25], [0.8, 0.15, 0.05]]


def test_a_prior_passes_with_all_its_classes():
  found = run(PROBS)
  np.testing.assert_allclose(found.scores, [0.6, 0.35, 0.25, 0.2], rtol=1e-5)
  np.testing.assert_array_equal(found.labels, [0, 0, 1, 1])
  np.testing.assert_allclose(found.boxes_xyxy[:2], PRIORS[:2], atol=1e-5)
  np.testing.assert_array_equal(found.coefficients[1], [2, 3])


def test_one_class_for_each_box_where_asked():
  found = run(PROBS, across_classes=True)
  np.testing.assert_array_equal(found.valid, [True, True, False, False])
  np.testing.assert_array_equal(found.labels[:2], [0, 0])
  probs = [[0.1, 0.2, 0.7], *PROBS[1:]]
  found = run(probs, across_classes=True)
  np.testing.assert_array_equal(found.labels[:2], [1, 0])
  np.testing.assert_allclose(found.scores[:2], [0.7, 0.35], rtol=1e-5)


def test_each_detection_by_its_own_score():
  found = run(PROBS, scored="detection")
  np.testing.assert_array_equal(found.valid, [True, True, False, False])


def test_best_of_each_level():
  found = run(PROBS, min_score=0.0, candidates_per_level=1)
  boxes = np.asarray(found.boxes_xyxy)[np.asarray(found.valid)]
  assert {tuple(np.round(box)) for box in boxes} == {
    (0, 0, 10, 10),
    (40, 0, 60, 10),
  }


def test_boxes_are_clipped_where_asked():
  found = run(PROBS[::-1], min_score=0.0, clip_boxes=True)
  assert np.max(found.boxes_xyxy) == 50
  with pytest.raises(ValueError, match="scored must be in"):
    dataclasses.replace(SETTINGS, scored="class")
