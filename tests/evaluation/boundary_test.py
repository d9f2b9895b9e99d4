"""Tests of solo_jax/evaluation/boundary.py."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from solo_jax.evaluation import boundary, coco_metrics


def blobs(rng, size=(70, 90)):
  """Several random ellipses, some cut by the edge of the image."""
  mask = np.zeros(size, np.uint8)
  for _ in range(4):
    center = [int(x) for x in rng.integers(0, size[::-1])]
    axes = [int(x) for x in rng.integers(4, 30, 2)]
    cv2.ellipse(mask, center, axes, 30, 0, 360, 1, -1)
  return mask


@pytest.mark.parametrize("distance", [1, 2, 5, 40])
def test_is_what_erosions_take_away(distance):
  for seed in range(5):
    mask = blobs(np.random.default_rng(seed))
    padded = np.pad(mask, 1)  # nothing beyond the image
    eroded = cv2.erode(padded, np.ones((3, 3)), iterations=distance)
    expected = (mask - eroded[1:-1, 1:-1]).astype(bool)
    np.testing.assert_array_equal(
      boundary.boundary(mask.astype(bool), distance), expected
    )


def test_encoded_boundary_lies_two_percent_of_the_diagonal_inside():
  # A 3-4-5 image of diagonal 500: 10 pixels.
  mask = np.zeros((300, 400), np.uint8, order="F")
  mask[100:200, 0:150] = 1
  found = coco_mask.decode(
    boundary.encode_boundary(coco_mask.encode(mask))
  ).astype(bool)
  inner = np.zeros_like(found)
  inner[110:190, 10:140] = True
  np.testing.assert_array_equal(found, mask.astype(bool) & ~inner)


def test_small_objects_are_all_boundary():
  mask = np.zeros((300, 400), np.uint8, order="F")
  mask[100:120, 50:300] = 1
  encoded = coco_mask.encode(mask)
  assert boundary.encode_boundary(encoded) == encoded


def test_boundary_ap_by_hand(scenes):
  # Diagonal 100, distance 2. A square of 40 with its left 4 columns missing:
  # mask IoU 36 / 40 = 0.9, a hit at nine of ten thresholds. Boundaries: of 40 x
  # 40 without 36 x 36, 304; of 36 x 40 without 32 x 36, 288; both share all
  # but the left columns: rows 4 x 36 and right columns 2 x 36, and of the
  # detection's own left columns (2 x 36) none: 216. IoU 216 / 376 = 0.574, a
  # hit at 0.50 and 0.55.
  built = scenes().image(1)
  built.truth("cat", (20, 10, 40, 40)).found("cat", (24, 10, 36, 40), 0.9)
  metrics = coco_metrics.evaluate(
    built.dataset, built.results, max_detections=100
  )
  assert metrics.mask_AP == pytest.approx(0.9)
  found = boundary.evaluate(built.dataset, built.results, max_detections=100)
  assert found == {
    "boundary_AP": pytest.approx(0.2),
    "boundary_AP_S": None,
    "boundary_AP_M": pytest.approx(0.2),
    "boundary_AP_L": None,
  }


def test_perfect_masks_and_crowds(scenes):
  built = scenes().image(1).truth("cat", (5, 5, 10, 10))
  built.truth("cat", (30, 10, 40, 40), iscrowd=1)
  built.found("cat", (5, 5, 10, 10), 0.5)
  # Inside the crowd, so it counts neither way, though it shares no boundary.
  built.found("cat", (40, 20, 15, 15), 0.9)
  found = boundary.evaluate(built.dataset, built.results, max_detections=100)
  assert found["boundary_AP"] == pytest.approx(1)


def test_nothing_detected_is_zero(scenes):
  built = scenes().image(1).truth("cat", (5, 5, 10, 10))
  found = boundary.evaluate(built.dataset, [], max_detections=100)
  assert found["boundary_AP"] == 0
