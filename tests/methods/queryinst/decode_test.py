"""Tests of solo_jax/methods/queryinst/decode.py."""

import numpy as np

from solo_jax.methods.queryinst.decode import decode
from solo_jax.methods.queryinst.network import Outputs


def test_low_scores_are_not_valid_and_boxes_end_with_the_image():
  outputs = Outputs(
    scores=np.float32([[0.9, 0.2]]),
    labels=np.int32([[3, 4]]),
    boxes_xyxy=np.float32([[[-3, 2, 50, 9], [0, 0, 5, 5]]]),
    mask_probs=np.zeros((1, 2, 28, 28), "f"),
  )
  found = decode(outputs, np.array([[8, 40]]), score_threshold=0.2)
  np.testing.assert_array_equal(found.valid, [[True, False]])
  np.testing.assert_allclose(found.scores, [[0.9, 0]])
  np.testing.assert_array_equal(found.labels, [[3, 0]])
  np.testing.assert_allclose(found.boxes_xyxy[0, 0], [0, 2, 40, 8])
  # The mask lies over the box as it was predicted.
  np.testing.assert_allclose(found.masks.boxes_xyxy[0, 0], [-3, 2, 50, 9])
