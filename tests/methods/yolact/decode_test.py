"""Tests of solo_jax/methods/yolact/decode.py."""

import numpy as np

from solo_jax.methods.variants import Variant
from solo_jax.methods.yolact.decode import decode, merge
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


def find(boxes, scores, labels, probs):
  number = len(scores)
  return Outputs(
    detections=Detections(
      boxes_xyxy=np.array([boxes], "f"),
      coefficients=np.zeros((1, number, 2), "f"),
      scores=np.array([scores], "f"),
      labels=np.array([labels], np.int32),
      valid=np.array([scores], "f") > 0,
    ),
    mask_probs=np.array([probs], "f"),
  )


def test_a_mirrored_variant_competes_in_the_frame_of_the_first():
  """Of one class and place the better stays; its mask is mirrored back."""
  half = np.zeros((4, 4))
  half[:, :2] = 1  # the left half, of the mirrored image
  first = find(
    [[0, 0, 8, 16], [0, 0, 0, 0]], [0.6, 0], [1, 0], [half, 0 * half]
  )
  other = find(
    [[8, 0, 16, 16], [0, 0, 8, 16]], [0.9, 0.5], [1, 1], [half[:, ::-1], half]
  )
  size = np.array([[16, 16]])
  variants = [
    Variant(
      outputs=outputs,
      image_size=size,
      padded_size=(16, 16),
      is_mirrored=is_mirrored,
    )
    for outputs, is_mirrored in ((first, False), (other, True))
  ]
  found = merge(variants, nms_threshold=0.5, max_detections=3)
  assert found.masks.resize == "direct"
  np.testing.assert_array_equal(found.valid, [[True, True, False]])
  np.testing.assert_allclose(found.scores, [[0.9, 0.5, 0]])
  np.testing.assert_allclose(
    found.boxes_xyxy[0, :2], [[0, 0, 8, 16], [8, 0, 16, 16]]
  )
  np.testing.assert_allclose(found.masks.probs[0, 0], half, atol=1e-6)
  np.testing.assert_allclose(found.masks.probs[0, 1], half[:, ::-1], atol=1e-6)
