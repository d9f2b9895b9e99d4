"""Tests of solo_jax/methods/regions/box_coding.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.regions import box_coding
from solo_jax.methods.regions.box_coding import is_large_enough

clip, pairwise_iou = map(jax.jit, (box_coding.clip, box_coding.pairwise_iou))
encode = jax.jit(box_coding.encode, static_argnums=2)
decode = jax.jit(
  box_coding.decode, static_argnums=2, static_argnames="log_clamp"
)
ONES = (1.0, 1.0, 1.0, 1.0)


def boxes_of(seed, count=7):
  rng = np.random.default_rng(seed)
  corner = rng.uniform(0, 40, (count, 2))
  side = rng.uniform(2, 30, (count, 2))
  return np.concatenate([corner, corner + side], 1).astype(np.float32)


def test_code_by_hand():
  # Twice as wide, as high, moved by half a width to the right.
  reference = np.array([[10.0, 10, 20, 30]], np.float32)
  box = np.array([[10.0, 10, 30, 30]], np.float32)
  code = encode(box, reference, (10.0, 10.0, 5.0, 5.0))
  np.testing.assert_allclose(code, [[5, 0, 5 * np.log(2), 0]], rtol=1e-6)


def test_decode_undoes_encode():
  boxes, reference = boxes_of(0), boxes_of(1)
  for weights in (ONES, (30.0, 30.0, 15.0, 15.0)):
    code = encode(boxes, reference, weights)
    again = decode(code, reference, weights, log_clamp="both")
    np.testing.assert_allclose(again, boxes, atol=1e-4)


def test_log_clamp():
  reference = np.array([[0.0, 0, 16, 16]], np.float32)
  code = np.array([[0.0, 0, 100, -100]], np.float32)
  for clamp, height in (("above", 0), ("both", 16 * 16 / 1000)):
    x1, y1, x2, y2 = decode(code, reference, ONES, log_clamp=clamp)[0]
    np.testing.assert_allclose(x2 - x1, 1000, rtol=1e-5)
    np.testing.assert_allclose(y2 - y1, height, rtol=1e-3, atol=1e-6)
  with pytest.raises(ValueError, match="log_clamp must be in"):
    decode(code, reference, ONES, log_clamp="below")


def test_codes_of_padding_are_finite():
  zeros = np.zeros((1, 4), np.float32)
  assert np.isfinite(encode(zeros, boxes_of(0, 1), ONES)).all()
  assert np.isfinite(encode(boxes_of(0, 1), zeros, ONES)).all()


def test_clip_to_each_image():
  boxes = np.tile(np.array([-3.0, -4, 100, 90], np.float32), (2, 3, 1))
  size = jnp.asarray([[20, 50], [30, 200]], jnp.int32)
  clipped = clip(boxes, size)
  np.testing.assert_array_equal(clipped[0, 1], [0, 0, 50, 20])
  np.testing.assert_array_equal(clipped[1, 2], [0, 0, 100, 30])


def test_overlap_by_hand():
  a = np.array([[0.0, 0, 10, 10], [5, 5, 5, 5]], np.float32)
  b = np.array([[5.0, 0, 15, 10], [20, 20, 30, 30], [5, 5, 5, 5]], np.float32)
  np.testing.assert_allclose(pairwise_iou(a, b), [[1 / 3, 0, 0], [0, 0, 0]])


def test_small_boxes():
  boxes = np.array([[0.0, 0, 1, 0], [0, 0, 1, 0.5], [0, 0, 1, 1]], np.float32)
  for min_side, expected in (
    (None, [True, True, True]),
    (0, [False, True, True]),
    (0.5, [False, True, True]),
    (0.6, [False, False, True]),
  ):
    np.testing.assert_array_equal(is_large_enough(boxes, min_side), expected)


@pytest.mark.golden("rcnn_box_coding*.npz")
def test_fixture(golden):
  size = jnp.asarray(golden.config["image_hw"], jnp.int32)
  boxes = golden["boxes"]
  for i, weights in enumerate(golden.config["weights"]):
    weights = tuple(weights)
    codes = golden[f"scaled_deltas_{i}"].reshape(len(boxes), -1, 4)
    for name, clamp in (("tv", "above"), ("mmdet", "both")):
      encoded = encode(golden["gt_boxes"], boxes, weights)
      decoded = decode(codes, boxes[:, None], weights, log_clamp=clamp)
      for found, expected in (
        (encoded, golden[f"encoded_{name}_{i}"]),
        (decoded, golden[f"decoded_{name}_{i}"]),
        (clip(decoded, size), golden[f"decoded_{name}_clipped_{i}"]),
      ):
        scale = np.maximum(1, np.abs(expected))
        difference = np.asarray(found).reshape(expected.shape) - expected
        assert np.max(np.abs(difference) / scale) < 2e-5
