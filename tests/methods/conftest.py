"""Fixtures of golden files and what the tests of the methods make of them."""

import numpy as np
import pytest

from solo_jax import types
from solo_jax.inference.masks import masks_to_original
from solo_jax.methods.regions import pyramid, roi_align
from tests.target_masks import pack_coverage


@pytest.fixture
def pool_by_products(monkeypatch):
  """RoIAlign as on accelerators: programs compile in half the time.

  That both ways are equal is tested in regions/roi_align_test.py; torchvision's
  first Mask R-CNN trains on tiles, and Mask R-CNN without a cascade detects on
  them.
  """
  for name in ("pool", "spread"):
    products = getattr(roi_align, f"{name}_by_products")
    monkeypatch.setattr(roi_align, f"{name}_by_tiles", products)
  pyramid.pool_boxes.clear_cache()
  yield
  pyramid.pool_boxes.clear_cache()


@pytest.fixture
def golden_masks(golden):
  """Ground-truth masks of the padded image. [N, H, W] bool."""
  return golden.masks("gt_masks_packed", golden["gt_hw"])


@pytest.fixture
def golden_centers(golden_masks):
  """Centres of mass (x, y), zeros for an empty mask. [N, 2] float32."""
  return np.array(
    [np.argwhere(m).mean(0)[::-1] if m.any() else (0, 0) for m in golden_masks],
    np.float32,
  )


def published_bits(masks, stride):
  """Bits of [N, H, W] masks: two or more of a cell's four central pixels."""
  _, height, width = masks.shape
  blocks = masks.reshape(-1, height // stride, stride, width // stride, stride)
  center = slice(stride // 2 - 1, stride // 2 + 1)
  return blocks[:, :, center, :, center].sum((2, 4)) >= 2


def second_empty(x, dtype):
  """Adds the values of an image without instances. [2, ...]."""
  x = np.asarray(x, dtype)
  return np.stack([x, np.zeros_like(x)])


def golden_targets(masks, stride):
  """Mask targets of both images. [2, N] of [h, w]."""
  bits = second_empty(published_bits(masks, stride), np.uint8)
  return pack_coverage(255 * bits, stride)


@pytest.fixture
def golden_coverage(golden, golden_masks):
  """Masks of both images at each level's size. [2, N] of [h, w]."""
  return tuple(
    golden_targets(golden_masks, stride // 2)
    for stride in golden.config["strides"]
  )


@pytest.fixture
def golden_batch(golden, golden_masks, golden_centers):
  """The instances of a golden file in image 0, none in image 1."""
  height, width = (int(size) for size in golden["gt_hw"])
  return types.Batch(
    image=np.zeros((2, height, width, 3), np.uint8),
    image_size=np.full((2, 2), (height, width), np.int32),
    image_valid=np.ones(2, bool),
    masks=golden_targets(golden_masks, 4),
    centers=second_empty(golden_centers, np.float32),
    boxes_xyxy=second_empty(golden["gt_boxes"], np.float32),
    labels=second_empty(golden["gt_labels"], np.int32),
    valid=second_empty(golden_masks.any((1, 2)), bool),
    num_dropped=np.zeros(2, np.int32),
    row=np.arange(2, dtype=np.int32),
  )


@pytest.fixture
def golden_loss_settings(golden):
  """Arguments of a loss as mmdetection has them, without `mask_average`."""
  config = golden.config
  return dict(
    scale_ranges=tuple(map(tuple, config["scale_ranges"])),
    center_sigma=config["pos_scale"],
    max_positives=256,
    category_weight=config["focal"]["loss_weight"],
    mask_weight=config["dice_weight"],
    focal_alpha=config["focal"]["alpha"],
    focal_gamma=config["focal"]["gamma"],
  )


@pytest.fixture
def golden_decode_settings(golden):
  """Fields of `DecodeSettings` as the file has them."""
  test = golden.config["test"]
  logits = np.concatenate([x.ravel() for x in golden.levels("cls_logit")])
  num_above = int((1 / (1 + np.exp(-logits)) > test["score_thr"]).sum())
  return dict(
    strides=tuple(golden.config["strides"]),
    score_threshold=test["score_thr"],
    mask_threshold=test["mask_thr"],
    max_candidates=num_above,  # no more: each capacity takes time to compile
    nms_candidates=test["nms_pre"],
    nms_kernel=test["kernel"],
    nms_sigma=test["sigma"],
    update_threshold=test["filter_thr"],
    max_detections=test["max_per_img"],
  )


@pytest.fixture
def assert_golden_detections(golden):
  """Compares Decoded of one image: scores, labels, order, final masks."""

  def check(decoded, rtol=1e-4):
    config = golden.config
    assert int(decoded.num_dropped[0]) == 0
    valid = np.asarray(decoded.valid[0])
    np.testing.assert_allclose(
      decoded.scores[0][valid], golden["out_scores"], rtol=rtol
    )
    np.testing.assert_array_equal(
      decoded.labels[0][valid], golden["out_labels"]
    )
    masks, _ = masks_to_original(
      np.asarray(decoded.masks.probs[0])[valid],
      mask_stride=4,
      image_size=tuple(config["img_hw"]),
      original_size=tuple(config["ori_hw"]),
      threshold=config["test"]["mask_thr"],
    )
    expected = golden.masks("out_masks_packed", golden["out_hw"])
    shared = (masks & expected).sum((1, 2))
    union = (masks | expected).sum((1, 2))
    assert (shared / np.maximum(union, 1)).min() > 0.999

  return check
