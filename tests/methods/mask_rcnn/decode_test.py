"""Tests of solo_jax/methods/mask_rcnn/decode.py."""

import numpy as np

from solo_jax.methods.mask_rcnn.decode import decode
from solo_jax.methods.regions.detections import Detections


def test_boxes_are_predictions_and_frames_of_masks():
  rng = np.random.default_rng(0)
  detections = Detections(
    boxes=rng.uniform(size=(2, 3, 4)),
    scores=np.array([[0.9, 0.5, 0.0], [0.0, 0.0, 0.0]]),
    labels=np.array([[1, 0, 0], [0, 0, 0]]),
    valid=np.array([[True, True, False], [False, False, False]]),
  )
  probs = rng.uniform(size=(2, 3, 28, 28))
  decoded = decode(detections, probs, paste="torchvision")
  np.testing.assert_array_equal(decoded.boxes_xyxy, detections.boxes)
  np.testing.assert_array_equal(decoded.masks.boxes_xyxy, detections.boxes)
  np.testing.assert_array_equal(decoded.masks.probs, probs)
  assert decoded.masks.paste == "torchvision"
  np.testing.assert_array_equal(decoded.valid, detections.valid)
  np.testing.assert_array_equal(decoded.num_dropped, [0, 0])
