"""Tests of solo_jax/grouping/fast_nms.py."""

import functools

import jax
import numpy as np
import pytest

from solo_jax.grouping.fast_nms import fast_nms


@pytest.mark.golden("yolact_fast_nms*.npz")
def test_fixture(golden):
  """mmdetection's, whose background is the last class."""
  config = golden.config
  for name, (top_k, limit) in config["limits"].items():
    box, label, score, valid = jax.jit(
      functools.partial(
        fast_nms,
        top_k=top_k,
        threshold=config["iou_thr"],
        min_score=config["score_thr"],
        max_detections=limit,
      )
    )(
      golden["boxes"].astype("f"),
      golden["scores"][:, :-1],
      np.ones(len(golden["boxes"]), bool),
    )
    count = len(golden[f"{name}_scores"])
    assert valid[:count].all() and not valid[count:].any()
    np.testing.assert_array_equal(label[:count], golden[f"{name}_labels"])
    np.testing.assert_array_equal(score[:count], golden[f"{name}_scores"])
    box = box[:count]
    np.testing.assert_array_equal(golden["boxes"][box], golden[f"{name}_boxes"])
    np.testing.assert_array_equal(
      golden["coeffs"][box], golden[f"{name}_coeffs"]
    )


def run(boxes, scores, valid=None, **options):
  options = (
    dict(top_k=9, threshold=0.5, min_score=None, max_detections=4) | options
  )
  valid = np.ones(len(boxes), bool) if valid is None else valid
  found = jax.jit(functools.partial(fast_nms, **options))(
    np.asarray(boxes, "f"), np.asarray(scores, "f"), valid
  )
  return [np.asarray(x) for x in found]


def test_a_suppressed_box_still_suppresses_others():
  """Of a chain, greedy suppression would keep the third box."""
  boxes = [[0, 0, 10, 10], [0, 3, 10, 13], [0, 6, 10, 16]]
  box, label, score, valid = run(boxes, [[0.9], [0.8], [0.7]])
  np.testing.assert_array_equal(valid, [True, False, False, False])
  assert box[0] == 0 and label[0] == 0
  np.testing.assert_allclose(score, [0.9, 0, 0, 0])


def test_classes_do_not_compete_and_the_best_come_first():
  boxes = [[0, 0, 10, 10], [0, 0, 10, 10]]
  box, label, score, valid = run(boxes, [[0.2, 0.6], [0.3, 0.1]])
  assert valid.tolist() == [True, True, False, False]
  assert list(zip(box[:2], label[:2], strict=True)) == [(0, 1), (1, 0)]
  np.testing.assert_allclose(score[:2], [0.6, 0.3])


def test_boxes_that_take_no_part():
  boxes = [[0, 0, 10, 10], [0, 0, 10, 10]]
  box, _, score, valid = run(boxes, [[0.9], [0.3]], np.array([False, True]))
  assert valid.tolist() == [True, False, False, False] and box[0] == 1
  _, _, _, valid = run(boxes, [[0.9], [0.3]], np.zeros(2, bool))
  assert not valid.any()


def test_one_of_several_boxes_without_area_remains():
  box, _, _, valid = run([[3, 3, 3, 3], [5, 5, 5, 5]], [[0.9], [0.8]])
  assert valid.sum() == 1 and box[0] == 0
