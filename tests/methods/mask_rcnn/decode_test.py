"""Tests of solo_jax/methods/mask_rcnn/decode.py."""

import jax.numpy as jnp
import numpy as np

from solo_jax.methods.mask_rcnn.decode import decode, merge
from solo_jax.methods.mask_rcnn.network import Outputs
from solo_jax.methods.regions.detections import Detections
from solo_jax.methods.variants import Variant


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


def make_variant(boxes, scores, labels, fill, *, width, is_mirrored=False):
  number = len(boxes)
  probs = np.full((1, number, 4, 4), fill, np.float32)
  probs[..., 0] = 0  # a side that mirrors
  return Variant(
    outputs=Outputs(
      detections=Detections(
        boxes=jnp.asarray([boxes], jnp.float32),
        scores=jnp.asarray([scores], jnp.float32),
        labels=jnp.asarray([labels], jnp.int32),
        valid=jnp.asarray([scores]) > 0,
      ),
      mask_probs=jnp.asarray(probs),
    ),
    image_size=jnp.asarray([[width, width]]),
    padded_size=(128, 128),
    is_mirrored=is_mirrored,
  )


def test_variants_compete_in_the_frame_of_the_first():
  first = make_variant(
    [[10, 10, 30, 30], [0, 0, 0, 0]], [0.6, 0.0], [1, 0], 0.5, width=50
  )
  # Twice as large and mirrored: the same object, better seen; one of another
  # class in its place; a third object.
  second = make_variant(
    [[40, 20, 80, 60], [40, 20, 80, 60], [0, 80, 20, 100]],
    [0.9, 0.3, 0.2],
    [1, 2, 1],
    1.0,
    width=100,
    is_mirrored=True,
  )
  found = merge(
    [first, second], nms_threshold=0.5, max_detections=4, paste="aligned"
  )
  np.testing.assert_allclose(found.scores[0], [0.9, 0.3, 0.2, 0.0])
  np.testing.assert_array_equal(found.labels[0], [1, 2, 1, 0])
  np.testing.assert_array_equal(found.valid[0], [True, True, True, False])
  np.testing.assert_allclose(
    found.boxes_xyxy[0, :3],
    [[10, 10, 30, 30], [10, 10, 30, 30], [40, 40, 50, 50]],
  )
  np.testing.assert_allclose(found.masks.probs[0, 0, 0], [1, 1, 1, 0])
