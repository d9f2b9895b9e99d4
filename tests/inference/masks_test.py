"""Tests of solo_jax/inference/masks.py."""

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from solo_jax.inference import masks as masks_module
from solo_jax.inference.masks import (
  axis_weights,
  masks_to_original,
  picture_to_original,
)
from solo_jax.methods.grid.decode import DecodeSettings, decode_candidates
from solo_jax.methods.solov2.decode import make_grids
from solo_jax.methods.solov2.network import Outputs


def resize(image, size):
  """Bilinear, align_corners=False, no antialias; full frame, float64."""
  for axis, length in enumerate(size):
    image = np.moveaxis(image, axis, 0)
    result = np.empty((length, *image.shape[1:]))
    for i in range(length):
      position = (i + 0.5) * len(image) / length - 0.5
      position = min(max(position, 0.0), len(image) - 1.0)
      low = int(position)
      high = min(low + 1, len(image) - 1)
      fraction = position - low
      result[i] = image[low] * (1 - fraction) + image[high] * fraction
    image = np.moveaxis(result, 0, axis)
  return image


def published_order(probs, mask_stride, image_size, original_size):
  """Probabilities at the original size by the three steps of the paper."""
  padded = resize(
    probs.astype(np.float64), [side * mask_stride for side in probs.shape]
  )
  return resize(padded[: image_size[0], : image_size[1]], original_size)


def blobs(num_masks, size, seed=0):
  """Soft random masks of [num_masks, *size], some of several parts."""
  rng = np.random.default_rng(seed)
  noise = ndimage.gaussian_filter(
    rng.normal(size=(num_masks, *size)), (0, 2.0, 2.0)
  )
  noise /= noise.std()
  return (1 / (1 + np.exp(2 - 4 * noise))).astype(np.float32)


@pytest.mark.parametrize(
  ("mask_stride", "image_size", "original_size"),
  [
    (4, (64, 96), (64, 96)),  # no padding, no second resize
    (4, (61, 83), (61, 83)),
    (4, (61, 83), (149, 203)),  # enlarged
    (4, (64, 90), (23, 31)),  # shrunk: pixels are skipped
    (4, (59, 96), (200, 64)),  # one axis each way
    (2, (31, 47), (77, 40)),
    (1, (16, 24), (33, 24)),
  ],
)
@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_equals_the_full_frame_steps(
  mask_stride, image_size, original_size, threshold
):
  probs = blobs(6, (16, 24))
  masks, boxes = masks_to_original(
    probs,
    mask_stride=mask_stride,
    image_size=image_size,
    original_size=original_size,
    threshold=threshold,
  )
  assert masks.shape == (6, *original_size) and masks.dtype == bool
  for prob, mask, box in zip(probs, masks, boxes, strict=True):
    oracle = published_order(prob, mask_stride, image_size, original_size)
    is_clear = np.abs(oracle - threshold) > 1e-6  # float32 decides ties
    assert is_clear.mean() > 0.999
    np.testing.assert_array_equal(mask[is_clear], oracle[is_clear] > threshold)
    rows, columns = np.nonzero(mask)
    np.testing.assert_array_equal(
      box,
      [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1],
    )


def test_large_image_crosses_bands():
  probs = blobs(2, (40, 60), seed=1)
  masks, _ = masks_to_original(
    probs,
    mask_stride=4,
    image_size=(150, 237),
    original_size=(300, 500),
    threshold=0.5,
  )
  for prob, mask in zip(probs, masks, strict=True):
    oracle = published_order(prob, 4, (150, 237), (300, 500))
    is_clear = np.abs(oracle - 0.5) > 1e-6
    np.testing.assert_array_equal(mask[is_clear], oracle[is_clear] > 0.5)


def test_resized_masks_by_hand():
  # Cells 0, 1 at stride 2 have their centres at 0.5 and 2.5 of the pixel
  # indices 0..3, so pixels hold 0, 1/4, 3/4, 1.
  axis = axis_weights(2, mask_stride=2, image_length=4, original_length=4)
  np.testing.assert_allclose(
    axis.weights, [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
  )
  masks, boxes = masks_to_original(
    np.array([[[0.0, 1.0]]], np.float32),
    mask_stride=2,
    image_size=(2, 4),
    original_size=(2, 4),
    threshold=0.5,
  )
  np.testing.assert_array_equal(masks[0], [[0, 0, 1, 1]] * 2)
  np.testing.assert_array_equal(boxes, [[2, 0, 4, 2]])


@pytest.mark.parametrize("length", [1, 7, 400])
def test_bands_of_a_long_axis_are_those_of_the_matrix(monkeypatch, length):
  axis = axis_weights(
    20, mask_stride=4, image_length=77, original_length=length
  )
  bands = [(start, min(start + 64, length)) for start in range(0, length, 64)]
  expected = [axis.band(*band) for band in bands]
  monkeypatch.setattr(masks_module, "MAX_MATRIX", 0)
  for band, weights in zip(bands, expected, strict=True):
    np.testing.assert_array_equal(axis.band(*band), weights)
  np.testing.assert_allclose(axis.weights.sum(1), 1, atol=1e-6)


def test_masks_inside_their_boxes_are_those_of_planes(monkeypatch):
  rng = np.random.default_rng(0)
  probs = rng.random((4, 6, 8), np.float32) * (rng.random((4, 6, 8)) < 0.1)
  probs[2] = 0  # nothing
  options = dict(mask_stride=4, image_size=(22, 30), original_size=(51, 70))
  planes, boxes = masks_to_original(probs, **options, threshold=0.5)
  monkeypatch.setattr(masks_module, "MAX_PLANES", 0)
  cropped, same = masks_to_original(probs, **options, threshold=0.5)
  np.testing.assert_array_equal(same, boxes)
  np.testing.assert_array_equal(cropped.to_dense(), planes)
  for crop, box in zip(cropped.crops, boxes, strict=True):
    assert crop.shape == (box[3] - box[1], box[2] - box[0])


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1), (3, 300_000)])
def test_very_long_images_take_memory_as_their_pixels_do(size):
  """One pixel in a hundred cells; a matrix would have 336 million numbers."""
  cells = [336 if side > 8 else 8 for side in size]
  probs = np.zeros((1, *cells), np.float32)
  probs[0][tuple(slice(x // 2 if x > 8 else x) for x in cells)] = 1
  options = dict(
    mask_stride=4,
    image_size=[1333 if side > 8 else 32 for side in size],
    original_size=size,
  )
  tracemalloc.start()
  masks, boxes = masks_to_original(probs, **options, threshold=0.5)
  picture = picture_to_original(np.repeat(probs[0, ..., None], 3, 2), **options)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 3e8
  length = max(size)
  assert abs(max(boxes[0]) - length / 2) <= length * 0.01
  assert masks.sum() == max(boxes[0]) * min(size)
  assert (picture[..., 0] > 127).sum() == masks.sum()


def test_threshold_is_strict():
  options = dict(mask_stride=2, image_size=(2, 2), original_size=(2, 2))
  probs = np.full((1, 1, 1), 0.5, np.float32)
  assert not masks_to_original(probs, **options, threshold=0.5)[0].any()
  assert masks_to_original(probs, **options, threshold=0.49)[0].all()


def test_no_masks_and_an_empty_mask():
  options = dict(
    mask_stride=4, image_size=(8, 8), original_size=(5, 7), threshold=0.5
  )
  masks, boxes = masks_to_original(np.zeros((0, 2, 2), np.float32), **options)
  assert masks.shape == (0, 5, 7) and boxes.shape == (0, 4)
  masks, boxes = masks_to_original(np.zeros((1, 2, 2), np.float32), **options)
  assert not masks.any() and not boxes.any()


def test_a_mask_in_the_padding_alone_is_empty():
  probs = np.zeros((1, 4, 4), np.float32)
  probs[0, :, 3] = 1.0
  masks, boxes = masks_to_original(
    probs,
    mask_stride=4,
    image_size=(16, 8),
    original_size=(16, 8),
    threshold=0.5,
  )
  assert not masks.any() and not boxes.any()


def test_planes_are_column_major():
  masks, _ = masks_to_original(
    blobs(3, (8, 8)),
    mask_stride=4,
    image_size=(32, 32),
    original_size=(20, 30),
    threshold=0.5,
  )
  assert masks.transpose(0, 2, 1).flags.c_contiguous


def test_refuses_an_image_beyond_the_padded_input():
  with pytest.raises(ValueError, match="33 must lie within 1 and the padded"):
    masks_to_original(
      np.zeros((1, 8, 8), np.float32),
      mask_stride=4,
      image_size=(33, 32),
      original_size=(33, 32),
      threshold=0.5,
    )


@pytest.mark.golden("infer_solov2*.npz")
def test_fixture_from_logits_to_masks(golden):
  test = golden.config["test"]
  logits = np.concatenate([x.ravel() for x in golden.levels("cls_logit")])
  num_above = int((1 / (1 + np.exp(-logits)) > test["score_thr"]).sum())
  outputs = Outputs(
    golden.levels("cls_logit"),
    golden.levels("kernel_pred"),
    golden["mask_feats"].transpose(0, 2, 3, 1),
  )
  settings = DecodeSettings(
    strides=tuple(golden.config["strides"]),
    score_threshold=test["score_thr"],
    mask_threshold=test["mask_thr"],
    max_candidates=num_above,
    nms_candidates=test["nms_pre"],
    nms_kernel=test["kernel"],
    nms_sigma=test["sigma"],
    update_threshold=test["filter_thr"],
    max_detections=test["max_per_img"],
  )
  decoded = decode_candidates(make_grids(outputs), settings)
  assert not decoded.num_dropped.any()
  valid = np.asarray(decoded.valid[0])
  masks, _ = masks_to_original(
    np.asarray(decoded.masks.probs[0])[valid],
    mask_stride=golden.config["net_hw"][0] // golden["mask_feats"].shape[2],
    image_size=golden.config["img_hw"],
    original_size=golden.config["ori_hw"],
    threshold=test["mask_thr"],
  )
  expected = golden.masks("out_masks_packed", golden["out_hw"])
  assert masks.shape == expected.shape
  np.testing.assert_allclose(
    decoded.scores[0][valid], golden["out_scores"], atol=1e-4
  )
  np.testing.assert_array_equal(decoded.labels[0][valid], golden["out_labels"])
  intersection = (masks & expected).sum((1, 2))
  iou = intersection / np.maximum((masks | expected).sum((1, 2)), 1)
  assert iou.min() > 0.999


def test_pictures_are_resized_as_masks_are():
  picture = np.random.default_rng(8).random((8, 12, 3)).astype(np.float32)
  sizes = dict(mask_stride=4, image_size=(30, 41), original_size=(50, 70))
  resized = picture_to_original(picture, **sizes)
  for channel in range(3):
    expected = published_order(picture[..., channel], 4, (30, 41), (50, 70))
    assert np.abs(resized[..., channel] - 255 * expected).max() < 0.51
