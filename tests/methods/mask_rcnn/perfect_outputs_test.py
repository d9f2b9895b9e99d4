"""Tests of solo_jax/methods/mask_rcnn/perfect_outputs.py."""

import numpy as np

from solo_jax.methods.mask_rcnn.perfect_outputs import perfect_outputs
from tests.methods.small_regions import make_batch


def test_every_instance_is_detected_by_its_own_box():
  batch = make_batch()
  outputs = perfect_outputs(batch, mask_size=4)
  found = outputs.detections
  np.testing.assert_array_equal(found.valid, batch.valid)
  np.testing.assert_array_equal(
    found.boxes[batch.valid], batch.boxes_xyxy[batch.valid]
  )
  np.testing.assert_array_equal(found.scores, batch.valid)
  # The left half of each box, read between the cells of its own grid.
  left = np.repeat([[1.0, 1.0, 0.0, 0.0]], 4, axis=0)
  for mask in np.asarray(outputs.mask_probs)[batch.valid]:
    np.testing.assert_allclose(mask, left, atol=1e-5)
  assert not np.asarray(outputs.mask_probs)[~batch.valid].any()
