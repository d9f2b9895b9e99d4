"""Tests of solo_jax/methods/regions/detections.py."""

import numpy as np
import pytest

from solo_jax.methods.regions.box_coding import clip, decode
from solo_jax.methods.regions.detections import (
  DetectionSettings,
  select_detections,
)


def make_settings(**changed):
  given = dict(
    score_threshold=0.2, nms_threshold=0.5, max_detections=4, min_side=None
  )
  return DetectionSettings(**given | changed)


BOXES = np.array(
  [[0, 0, 10, 10], [1, 0, 11, 10], [30, 30, 30, 40]], np.float32
)[None, :, None]
PROBS = np.array([[[0.5, 0.3], [0.6, 0.1], [0.25, 0.2]]], np.float32)
VALID = np.ones((1, 3), bool)


def test_classes_do_not_suppress_each_other():
  found = select_detections(BOXES, PROBS, VALID, make_settings())
  np.testing.assert_allclose(found.scores[0], [0.6, 0.3, 0.25, 0.0])
  np.testing.assert_array_equal(found.labels[0], [0, 1, 0, 0])
  np.testing.assert_array_equal(found.valid[0], [True, True, True, False])
  np.testing.assert_array_equal(found.boxes[0, 0], [1, 0, 11, 10])
  np.testing.assert_array_equal(found.boxes[0, 1], [0, 0, 10, 10])


def test_boxes_without_area_and_invalid_proposals():
  found = select_detections(BOXES, PROBS, VALID, make_settings(min_side=0.0))
  assert int(found.valid.sum()) == 2
  found = select_detections(BOXES, PROBS, VALID & False, make_settings())
  assert not np.asarray(found.valid).any()
  assert not np.asarray(found.scores).any()


def test_more_detections_than_slots():
  found = select_detections(
    BOXES, PROBS, VALID, make_settings(max_detections=2)
  )
  np.testing.assert_allclose(found.scores[0], [0.6, 0.3])


@pytest.mark.golden("rcnn_detections*.npz")
def test_fixture(golden):
  config = golden.config
  rois, logits = golden["rois"], golden["logits_bg_last"]
  probs = np.exp(logits - logits.max(1, keepdims=True))
  probs = (probs / probs.sum(1, keepdims=True))[None, :, :-1]
  size = np.asarray(config["image_hw"], np.int32)
  rules = {
    "tv": ("above", 1e-2, slice(None)),
    "mmdet_specific": ("both", None, slice(None)),
    "mmdet_agnostic": ("both", None, slice(1)),
  }
  for name, (clamp, min_side, classes) in rules.items():
    codes = golden["deltas"][:, classes]
    weights = tuple(config["weights"])
    boxes = decode(codes, rois[:, None], weights, log_clamp=clamp)
    found = select_detections(
      clip(boxes, size)[None],
      probs,
      np.ones((1, len(rois)), bool),
      make_settings(
        score_threshold=config["score_threshold"],
        nms_threshold=config["nms_threshold"],
        max_detections=config["max_detections"],
        min_side=min_side,
      ),
    )
    valid = np.asarray(found.valid[0])
    expected = golden[f"boxes_{name}"]
    assert valid.sum() == len(expected)
    np.testing.assert_allclose(
      found.boxes[0][valid], expected, rtol=2e-5, atol=2e-5
    )
    np.testing.assert_allclose(
      found.scores[0][valid], golden[f"scores_{name}"], atol=2e-5
    )
    np.testing.assert_array_equal(
      found.labels[0][valid], golden[f"labels_{name}"]
    )
