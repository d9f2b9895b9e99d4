"""Tests of solo_jax/methods/regions/matching.py."""

import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.regions.matching import Matching, match


def rule(**changed):
  given = dict(high=0.7, low=0.3, low_quality="none", lower_bound=0.3)
  return Matching(**given | changed)


# Boxes: 0 good for both, 1 between, 2 background, 3 the best of instance 1,
# 4 nearly as good for instance 1 but better for instance 0.
IOU = np.array(
  [[0.8, 0.5, 0.1, 0.2, 0.45], [0.7, 0.1, 0.0, 0.0, 0.0]], np.float32
)
VALID = np.ones(2, bool)


def test_thresholds_and_first_of_equals():
  iou = np.array([[0.7, 0.3, 0.29], [0.7, 0.3, 0.29]], np.float32)
  instance, kind = match(iou, VALID, rule())
  np.testing.assert_array_equal(instance, [0, 0, 0])
  np.testing.assert_array_equal(kind, [1, -1, 0])


def test_low_quality_by_hand():
  iou = np.array([[0.6, 0.5, 0.1], [0.4, 0.0, 0.2]], np.float32)
  # Box 0 is the best of both instances and below 0.7.
  for low_quality, instance in (("none", 0), ("keep", 0), ("claim", 1)):
    found, kind = match(iou, VALID, rule(low_quality=low_quality))
    assert found[0] == instance
    expected = -1 if low_quality == "none" else 1
    np.testing.assert_array_equal(kind, [expected, -1, 0])


def test_claim_takes_a_box_that_is_positive_for_another():
  found, kind = match(IOU, VALID, rule(low_quality="claim"))
  assert (int(found[0]), int(kind[0])) == (1, 1)
  found, _ = match(IOU, VALID, rule(low_quality="claim", lower_bound=0.75))
  assert int(found[0]) == 0


def test_an_instance_that_meets_no_box_claims_none():
  iou = np.array([[0.0, 0.0, 0.0]], np.float32)
  for low_quality in ("keep", "claim"):
    _, kind = match(
      iou, VALID[:1], rule(low_quality=low_quality, lower_bound=0.0)
    )
    assert not np.asarray(kind).any()


def test_padding_and_no_instances_at_all():
  _, kind = match(IOU, VALID & False, rule(low_quality="keep"))
  assert not np.asarray(kind).any()
  instance, kind = match(IOU[:0], VALID[:0], rule(low_quality="claim"))
  assert instance.shape == kind.shape == (5,)
  assert not np.asarray(kind).any()


def test_unknown_rule_is_refused():
  with pytest.raises(ValueError, match="low_quality must be in"):
    rule(low_quality="best")


@pytest.mark.golden("rcnn_matching*.npz")
def test_fixture(golden):
  for i, case in enumerate(golden.config["cases"]):
    iou = golden[f"iou_{i}"]
    for name, low_quality in (("tv", "keep"), ("mmdet", "claim")):
      matching = Matching(
        high=case["high"],
        low=case["low"],
        low_quality=low_quality if case["low_quality"] else "none",
        lower_bound=case["min_pos"],
      )
      # Padding changes nothing.
      padded = np.concatenate([iou, np.full((2, iou.shape[1]), 0.9)])
      valid = jnp.arange(len(padded)) < len(iou)
      instance, kind = match(padded.astype(np.float32), valid, matching)
      instance, kind = np.asarray(instance), np.asarray(kind)
      if name == "tv":  # instance, -1 background, -2 between
        found = np.where(kind == 1, instance, np.where(kind == 0, -1, -2))
      else:  # instance + 1, 0 background, -1 between
        found = np.where(kind == 1, instance + 1, kind)
      np.testing.assert_array_equal(found, golden[f"match_{name}_{i}"])
