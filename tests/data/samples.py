"""Samples of small images and rectangles."""

import numpy as np

from solo_jax.types import Sample


def make_sample(image, masks=None, **fields):
  height, width = image.shape[:2]
  masks = np.zeros((0, height, width), bool) if masks is None else masks
  num = len(masks)
  defaults = dict(
    image=image,
    masks=masks,
    labels=np.arange(num, dtype=np.int32),
    areas=masks.sum((1, 2)).astype(np.float64),
    boxes_xyxy=np.tile([0.0, 0.0, width, height], (num, 1)),
    is_crowd=np.zeros(num, bool),
    annotation_ids=np.arange(1, num + 1),
    image_id=7,
    file_name="7.jpg",
    original_size=(height, width),
    affine=np.eye(2, 3),
    image_size=(height, width),
  )
  return Sample(**defaults | fields)


def noise(height=40, width=64, dtype=np.uint8):
  rng = np.random.default_rng(0)
  return rng.integers(0, np.iinfo(dtype).max, (height, width, 3), dtype)


def rectangles(*boxes, height=40, width=64):
  masks = np.zeros((len(boxes), height, width), bool)
  for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
    mask[top:bottom, left:right] = True
  return masks
