"""Tests of solo_jax/evaluation/mean_iou.py."""

import numpy as np
import pytest

from solo_jax.evaluation.mean_iou import MeanIou


@pytest.mark.golden("pq_miou*.npz")
def test_fixture(golden):
  total = MeanIou(golden.config["num_semantic"])
  for truth, found in zip(golden["sem_gt"], golden["sem_pred"], strict=True):
    total.add(truth, found)
  np.testing.assert_array_equal(total.confusion, golden["confusion"])
  np.testing.assert_allclose(
    np.nan_to_num(total.iou), golden["f64_iou_per_class"], rtol=0, atol=1e-12
  )
  result = total.summarize()
  for name, expected in (
    ("mean_iou", "miou_detectron2"),
    ("mean_iou_with_predicted", "miou_union_over_zero"),
    ("frequency_weighted_iou", "fwiou"),
    ("mean_accuracy", "macc"),
    ("pixel_accuracy", "pixel_acc"),
  ):
    np.testing.assert_allclose(
      result[name], golden[f"f64_{expected}"], rtol=0, atol=1e-12
    )


def test_mean_iou_by_hand():
  total = MeanIou(4)
  total.add(np.asarray([[0, 0, 1, 255]]), np.asarray([[0, 1, 1, 3]]))
  # Class 0: 1 of 2, class 1: 1 of 2; 3 is predicted on an ignored pixel only.
  np.testing.assert_array_equal(total.iou, [0.5, 0.5, np.nan, np.nan])
  total.add(np.asarray([[1]]), np.asarray([[2]]))
  result = total.summarize()
  np.testing.assert_allclose(result["mean_iou"], (1 / 2 + 1 / 3) / 2)
  np.testing.assert_allclose(
    result["mean_iou_with_predicted"], (1 / 2 + 1 / 3) / 3
  )


def test_bad_maps_are_refused():
  total = MeanIou(2)
  with pytest.raises(ValueError, match="sizes"):
    total.add(np.zeros((1, 2)), np.zeros((2, 1)))
  with pytest.raises(ValueError, match="predicted labels go from 0 to 2"):
    total.add(np.zeros((1, 2), int), np.asarray([[0, 2]]))


def test_without_pixels_there_is_no_number():
  assert all(np.isnan(value) for value in MeanIou(2).summarize().values())
