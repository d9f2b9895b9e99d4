"""Tests of solo_jax/inference/box_masks.py."""

import tracemalloc

import jax
import numpy as np
import pytest

from solo_jax import types
from solo_jax.evaluation import rle
from solo_jax.inference import box_masks

# What the fixture calls the rules.
NAMES = {"aligned": "d2", "torchvision": "tv"}


def bilinear(mask, y, x):
  """Value at (y, x), pixel indices, of a mask with zeros all around it."""
  total = 0.0
  for row in (int(np.floor(y)), int(np.floor(y)) + 1):
    for column in (int(np.floor(x)), int(np.floor(x)) + 1):
      if 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]:
        share = (1 - abs(y - row)) * (1 - abs(x - column))
        total += share * float(mask[row, column])
  return total


def aligned_oracle(mask, box, size):
  """Every pixel of the image, one by one."""
  left, top, right, bottom = map(float, box)
  value = np.zeros(size)
  for i, j in np.ndindex(*size):
    v = (i + 0.5 - top) / (bottom - top) * mask.shape[0] - 0.5
    u = (j + 0.5 - left) / (right - left) * mask.shape[1] - 0.5
    value[i, j] = bilinear(mask, v, u)
  return value


def torchvision_oracle(mask, box, size):
  """Pads, expands, truncates, resizes and copies, as torchvision does."""
  cells = len(mask)
  padded = np.pad(mask, 1)
  left, top, right, bottom = box
  half = np.array([right - left, bottom - top], np.float32) / 2
  half = half * np.float32((cells + 2) / cells)
  middle = np.array([right + left, bottom + top], np.float32) / 2
  (x0, y0), (x1, y1) = np.trunc(middle - half), np.trunc(middle + half)
  width, height = max(int(x1 - x0) + 1, 1), max(int(y1 - y0) + 1, 1)
  value = np.zeros(size)
  for i, j in np.ndindex(height, width):
    row, column = int(y0) + i, int(x0) + j
    if 0 <= row < size[0] and 0 <= column < size[1]:
      y = np.clip((i + 0.5) * (cells + 2) / height - 0.5, 0, cells + 1)
      x = np.clip((j + 0.5) * (cells + 2) / width - 0.5, 0, cells + 1)
      value[row, column] = bilinear(padded, y, x)
  return value


ORACLES = {
  "aligned": (aligned_oracle, np.greater_equal),
  "torchvision": (torchvision_oracle, np.greater),
}


def paste(probs, boxes, size, rule, threshold=0.5, image_size=None):
  return box_masks.masks_to_original(
    types.BoxMasks(
      probs=np.asarray(probs, np.float32),
      boxes_xyxy=np.asarray(boxes, np.float32),
      paste=rule,
    ),
    image_size=image_size or size,
    original_size=size,
    threshold=threshold,
  )


def soft(probs, box, size, rule):
  """The values that are compared with the threshold, in the whole image."""
  find_positions, _ = box_masks.RULES[rule]
  (top, rows), (left, columns) = (
    box_masks._place(*find_positions(ends, len(probs), length), len(probs))
    for ends, length in ((box[1::2], size[0]), (box[0::2], size[1]))
  )
  value = rows.weights @ probs @ columns.weights.T
  image = np.zeros(size, np.float32)
  image[top : top + len(value), left : left + value.shape[1]] = value
  return image


@pytest.mark.golden("rcnn_mask_paste*.npz")
@pytest.mark.parametrize("rule", NAMES)
def test_fixture(golden, rule):
  name = NAMES[rule]
  for i, case in enumerate(golden.config["cases"]):
    size = tuple(case["image_hw"])
    probs, boxes = golden[f"probs_{i}"], golden[f"boxes_{i}"]
    for prob, box, expected in zip(
      probs, boxes, golden[f"soft_{name}_{i}"], strict=True
    ):
      assert np.abs(soft(prob, box, size, rule) - expected).max() < 6e-4
    # torchvision leaves the threshold to its caller, who takes 0.5.
    threshold = case["threshold"] if rule == "aligned" else 0.5
    masks, _ = paste(probs, boxes, size, rule, threshold)
    expected = golden.masks(f"binary_{name}_packed_{i}", size)
    sure = ~golden.masks(f"unsure_{name}_packed_{i}", size)
    assert sure.mean() > 0.99 and expected.any()
    np.testing.assert_array_equal(masks[sure], expected[sure])


@pytest.mark.parametrize("rule", ORACLES)
@pytest.mark.parametrize("threshold", [0.5, 0.23])
def test_equals_every_pixel_of_the_image(rule, threshold):
  """Boxes inside, across the edges, outside, below a pixel, and huge."""
  rng = np.random.default_rng(0)
  size, cells = (37, 53), 7
  boxes = np.float32(
    [
      (3.2, 5.7, 20.9, 30.1),
      (-9.4, -3.3, 14.0, 12.0),
      (40.5, 20.2, 70.0, 50.0),
      (10.3, 11.4, 10.8, 11.9),
      (20.0, 8.0, 27.0, 15.0),
      (-60.0, -50.0, 200.0, 90.0),
      (70.0, 5.0, 90.0, 20.0),
      (5.5, 2.5, 6.5, 33.0),
    ]
  )
  probs = rng.random((len(boxes), cells, cells), np.float32)
  masks, tight = paste(probs, boxes, size, rule, threshold)
  assert masks.shape == (len(boxes), *size) and masks.dtype == bool
  assert masks.transpose(0, 2, 1).flags.c_contiguous
  oracle, compare = ORACLES[rule]
  for prob, box, mask, found in zip(probs, boxes, masks, tight, strict=True):
    value = oracle(prob, box, size)
    sure = np.abs(value - threshold) > 1e-5
    np.testing.assert_array_equal(mask[sure], compare(value, threshold)[sure])
    rows, columns = np.nonzero(mask)
    expected = (
      (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
      if len(rows)
      else (0, 0, 0, 0)
    )
    np.testing.assert_array_equal(found, expected)
  assert masks[:3].any((1, 2)).all() and not masks[6].any()


def test_pasted_masks_by_hand():
  """Of two cells 1, 0 over four pixels: 3/4, 3/4, 1/4, 0.

  Pixel centres 0.5, 1.5, 2.5 and 3.5 are at -0.25, 0.25, 0.75 and 1.25 of the
  cells; before the first one a quarter of the mask is missing.
  """
  for threshold, row in (
    (0.5, [1, 1, 0, 0]),
    (0.17, [1, 1, 1, 0]),
    (0.8, [0, 0, 0, 0]),
  ):
    masks, tight = paste(
      [[[1, 0], [1, 0]]], [[0, 0, 4, 4]], (4, 4), "aligned", threshold
    )
    np.testing.assert_array_equal(masks[0, 1], row)
    np.testing.assert_array_equal(masks[0, 2], row)
    assert tight[0, 2] == sum(row)


def test_threshold_itself_belongs_to_an_aligned_mask_only():
  """Of a full mask, a pixel on the edge of the box has exactly 1/2."""
  boxes, probs = [[0.5, -50, 8, 50]], np.ones((1, 4, 4))
  masks, _ = paste(probs, boxes, (4, 8), "aligned")
  assert masks[0, :, 0].all()
  masks, _ = paste(np.full((1, 4, 4), 0.5), [[-9, -9, 9, 9]], (4, 4), "aligned")
  assert masks.all()
  masks, _ = paste(
    np.full((1, 4, 4), 0.5), [[-9, -9, 9, 9]], (4, 4), "torchvision"
  )
  assert not masks.any()


@pytest.mark.parametrize("rule", ORACLES)
def test_boxes_are_scaled_to_the_original_image(rule):
  """Each axis by its own factor."""
  probs = np.random.default_rng(1).random((1, 5, 5), np.float32)
  box = np.float32([[4, 6, 20, 30]])
  found, _ = paste(probs, box, (80, 90), rule, image_size=(40, 30))
  expected, _ = paste(probs, box * np.float32([3, 2, 3, 2]), (80, 90), rule)
  assert expected.any()
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("rule", ORACLES)
def test_no_masks_and_a_box_without_area(rule):
  masks, tight = paste(np.zeros((0, 4, 4)), np.zeros((0, 4)), (5, 7), rule)
  assert masks.shape == (0, 5, 7) and tight.shape == (0, 4)
  masks, tight = paste(np.ones((1, 4, 4)), [[2, 2, 2, 2]], (5, 7), rule)
  assert masks.sum() <= 1  # torchvision draws at least one pixel


@pytest.mark.parametrize("rule", ORACLES)
def test_cost_follows_the_area_of_the_boxes(rule):
  """Of an image as large as can be, only the box and half a cell around."""
  find_positions, _ = box_masks.RULES[rule]
  for low in (-12.3, 5000.6, 10**6 - 7.1):
    ends = np.float32([low, low + 20])
    start, positions = find_positions(ends, 28, 10**6)
    assert 5 < len(positions) <= 23
    assert low - 2 <= start <= max(low + 2, 0)


def test_memory_of_many_large_masks_is_that_of_the_result():
  """Masks are drawn one by one, never all as numbers of four bytes."""
  masks = types.BoxMasks(
    probs=np.full((40, 28, 28), 0.9, np.float32),
    boxes_xyxy=np.tile(np.float32([0, 0, 500, 400]), (40, 1)),
  )
  tracemalloc.start()
  try:
    found, _ = box_masks.masks_to_original(
      masks, image_size=(400, 500), original_size=(800, 1000), threshold=0.5
    )
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert found.mean() > 0.9
  assert found.nbytes < peak < 1.5 * found.nbytes


@pytest.mark.parametrize("rule", ORACLES)
def test_masks_of_a_large_image_stay_in_their_boxes(rule):
  """300 objects on 12 megapixels: planes would take 3.6 GB."""
  rng = np.random.default_rng(0)
  corner = rng.uniform(-20, 1000, (300, 2))
  masks = types.BoxMasks(
    probs=rng.random((300, 28, 28), np.float32),
    boxes_xyxy=np.float32(
      np.hstack([corner, corner + rng.uniform(0, 80, (300, 2))])
    ),
    paste=rule,
  )
  sizes = dict(image_size=(750, 1000), threshold=0.5)
  tracemalloc.start()
  try:
    found, boxes = box_masks.masks_to_original(
      masks, original_size=(3000, 4000), **sizes
    )
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert found.shape == (300, 3000, 4000)
  assert peak < 5e7
  few = jax.tree.map(lambda x: x[:5], masks)
  dense, expected = box_masks.masks_to_original(
    few, original_size=(3000, 4000), **sizes
  )
  np.testing.assert_array_equal(boxes[:5], expected)
  assert rle.encode(found[:5], boxes[:5]) == rle.encode(dense, expected)
