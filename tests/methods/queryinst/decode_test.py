"""Tests of solo_jax/methods/queryinst/decode.py."""

import numpy as np

from solo_jax.methods.queryinst.decode import decode, merge
from solo_jax.methods.queryinst.network import Outputs
from solo_jax.methods.variants import Variant


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


def make_variant(boxes, scores, labels, **frame):
  masks = np.zeros((1, len(scores), 28, 28), "f")
  masks[..., :7] = 1  # a side that mirrors
  outputs = Outputs(
    scores=np.float32([scores]),
    labels=np.int32([labels]),
    boxes_xyxy=np.float32([boxes]),
    mask_probs=masks,
  )
  return Variant(outputs=outputs, padded_size=(64, 64), **frame)


def test_variants_are_joined_in_the_frame_of_the_first():
  first = make_variant(
    [[-2, 4, 20, 24], [30, 30, 40, 40]],
    [0.6, 0.1],
    [1, 2],
    image_size=np.int32([[40, 40]]),
    is_mirrored=False,
  )
  # Twice as large and mirrored: the same object, and one of another class.
  second = make_variant(
    [[40, 8, 84, 48], [40, 8, 84, 48]],
    [0.8, 0.5],
    [1, 0],
    image_size=np.int32([[80, 80]]),
    is_mirrored=True,
  )
  found = merge([first, second], max_detections=3, score_threshold=0.2)
  np.testing.assert_array_equal(found.valid, [[True, True, False]])
  np.testing.assert_allclose(found.scores, [[0.8, 0.5, 0]])
  np.testing.assert_array_equal(found.labels, [[1, 0, 0]])
  np.testing.assert_allclose(found.boxes_xyxy[0, 0], [0, 4, 20, 24], atol=1e-5)
  np.testing.assert_allclose(found.masks.boxes_xyxy[0, 0], [-2, 4, 20, 24])
  row = found.masks.probs[0, 0, 10]
  np.testing.assert_allclose(row, [0] * 21 + [1] * 7, atol=1e-5)
