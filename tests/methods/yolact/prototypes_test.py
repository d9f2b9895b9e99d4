"""Tests of solo_jax/methods/yolact/prototypes.py."""

import numpy as np
from scipy.special import expit

from solo_jax.methods.yolact.prototypes import crop_weights, mask_probs


def test_crop_keeps_a_pixel_around_the_box():
  boxes = np.array([[20.0, 40, 40, 60], [-9, -9, 5, 999]], np.float32)
  inside = np.asarray(crop_weights(boxes, (10, 10), (100, 100)))
  expected = np.zeros((2, 10, 10), bool)
  expected[0, 3:7, 1:5] = True  # rows 4..6, columns 2..4, and one around
  expected[1, :, :2] = True
  np.testing.assert_array_equal(inside, expected)


def test_corners_in_any_order():
  boxes = np.array([[20.0, 40, 40, 60], [40, 60, 20, 40]], np.float32)
  first, second = crop_weights(boxes, (10, 10), (100, 100))
  np.testing.assert_array_equal(first, second)


def test_masks_are_combinations_of_prototypes():
  rng = np.random.default_rng(0)
  prototypes = rng.normal(size=(4, 6, 3)).astype("f")
  coefficients = rng.normal(size=(2, 3)).astype("f")
  boxes = np.array([[0.0, 0, 6, 4], [3, 1, 4, 2]], np.float32)
  found = mask_probs(prototypes, coefficients, boxes, (4, 6))
  expected = expit(np.einsum("hwk,nk->nhw", prototypes, coefficients))
  np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
  np.testing.assert_allclose(found[1, :3, 2:5], expected[1, :3, 2:5], rtol=1e-5)
  assert np.count_nonzero(found[1]) == 9


def test_pixels_without_prototypes_stay_outside():
  """The mean of 0.5 and 0.5 may round to more than 0.5."""
  found = mask_probs(
    np.zeros((2, 2, 3), "f"),
    np.ones((1, 3), "f"),
    np.float32([[0, 0, 2, 2]]),
    (2, 2),
  )
  assert 0.499 < np.min(found) and np.max(found) < 0.5 - 1e-7
