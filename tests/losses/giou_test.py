"""Tests of solo_jax/losses/giou.py."""

import jax
import numpy as np

from solo_jax.losses.giou import generalized_iou


def test_generalized_iou_by_hand():
  a = np.float32([[0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 2, 2]])
  b = np.float32([[1, 1, 3, 3], [2, 0, 3, 1], [0, 0, 2, 2]])
  # 1 of 7 with 2 of 9 empty; apart, with 1 of 3 empty; equal.
  expected = [1 / 7 - 2 / 9, -1 / 3, 1]
  np.testing.assert_allclose(generalized_iou(a, b), expected, rtol=1e-6)
  pairs = generalized_iou(a[:, None], b[None])
  np.testing.assert_allclose(np.diagonal(pairs), expected, rtol=1e-6)


def test_boxes_without_area_are_finite():
  point = np.float32([3, 3, 3, 3])
  assert np.isfinite(generalized_iou(point, point))
  gradient = jax.grad(generalized_iou)(point, point)
  assert np.all(np.isfinite(gradient))
