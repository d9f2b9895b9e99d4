"""Tests of solo_jax/methods/yolact/decode.py."""

import numpy as np

from solo_jax.methods.yolact.decode import decode
from solo_jax.methods.yolact.detections import Detections
from solo_jax.methods.yolact.network import Outputs


def test_sorted_clipped_and_without_what_is_not_valid():
  """Scores of masks change the order of detections."""
  boxes = np.array([[[-5.0, 0, 20, 10], [2, 3, 4, 5], [9, 9, 9, 9]]], "f")
  probs = np.arange(3, dtype=np.float32)[None, :, None, None] / 4
  outputs = Outputs(
    detections=Detections(
      boxes_xyxy=boxes,
      coefficients=np.zeros((1, 3, 2), "f"),
      scores=np.array([[0.3, 0.6, 0.0]], "f"),
      labels=np.array([[4, 2, 7]], np.int32),
      valid=np.array([[True, True, False]]),
    ),
    mask_probs=np.broadcast_to(probs, (1, 3, 2, 2)),
  )
  found = decode(outputs, np.array([[12, 16]]))
  np.testing.assert_allclose(found.scores, [[0.6, 0.3, 0]])
  np.testing.assert_array_equal(found.labels, [[2, 4, 0]])
  np.testing.assert_array_equal(found.valid, [[True, True, False]])
  np.testing.assert_allclose(found.boxes_xyxy[0, 1], [0, 0, 16, 10])
  np.testing.assert_allclose(found.masks.probs[0, :, 0, 0], [0.25, 0, 0.5])
