"""Tests of solo_jax/methods/queryinst/perfect_outputs.py."""

import numpy as np

from solo_jax.methods.queryinst.perfect_outputs import perfect_outputs
from tests.methods.yolact.method_test import make_batch


def test_masks_in_their_boxes():
  """The first instance fills its box, the third a part of it."""
  batch = make_batch()
  found = perfect_outputs(batch, number=6)
  assert found.mask_probs.shape == (1, 6, 28, 28)
  np.testing.assert_allclose(found.scores, [[1, 1, 1, 0, 0, 0]])
  np.testing.assert_array_equal(found.labels[0, :3], [1, 2, 3])
  np.testing.assert_allclose(found.boxes_xyxy[0, :3], batch.boxes_xyxy[0, :3])
  np.testing.assert_allclose(found.mask_probs[0, 0, 2:-2, 2:-2], 1, atol=1e-5)
  # One cell between empty ones: the mean of bilinear weights is 3 / 4 per axis.
  expected = 90 / 255 * 0.75**2
  np.testing.assert_allclose(
    np.mean(found.mask_probs[0, 2]), expected, rtol=1e-2
  )
