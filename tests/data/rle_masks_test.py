"""Tests of solo_jax/data/rle_masks.py."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from solo_jax.data.rle_masks import RleMasks


@pytest.fixture(scope="module")
def planes():
  """Four masks, the third of them empty."""
  masks = np.random.default_rng(0).random((4, 7, 9)) < 0.3
  masks[2] = False
  masks[3] = False
  masks[3, 2:4, 5:9] = True
  return masks


def encode(masks):
  encoded = [coco_mask.encode(np.asfortranarray(m, np.uint8)) for m in masks]
  return RleMasks([rle["counts"] for rle in encoded], masks.shape[1:])


@pytest.mark.parametrize(
  "index",
  [0, 3, -1, np.int64(2), slice(1, 3), np.array([True, False, True, False])],
)
def test_an_index_gives_what_it_gives_of_an_array(planes, index):
  found = encode(planes)[index]
  assert found.dtype == bool
  np.testing.assert_array_equal(found, planes[index])


def test_masks_convert_to_the_whole_array(planes):
  masks = encode(planes)
  assert len(masks) == 4 and masks.shape == planes.shape
  np.testing.assert_array_equal(np.asarray(masks), planes)
  np.testing.assert_array_equal(list(masks), planes)


@pytest.mark.parametrize("side", [1, 9, 300])
def test_a_window_is_that_of_the_mask(side):
  """Of single pixels and of runs whose length takes several characters."""
  rng = np.random.default_rng(side)
  planes = np.zeros((3, side, side), bool)
  planes[0] = rng.random((side, side)) < 0.5
  planes[1, side // 3 :, side // 2 :] = True
  masks = encode(planes)
  for index in range(3):
    for _ in range(20):
      top, left = rng.integers(side, size=2)
      rows = slice(top, rng.integers(top + 1, side + 1))
      columns = slice(left, rng.integers(left + 1, side + 1))
      found = masks.window(index, rows, columns)
      assert found.dtype == bool
      np.testing.assert_array_equal(found, planes[index, rows, columns])


def test_boxes_are_tight_and_continuous(planes):
  boxes = encode(planes).boxes_xyxy()
  np.testing.assert_array_equal(boxes[3], [5, 2, 9, 4])
  np.testing.assert_array_equal(boxes[2, :2], boxes[2, 2:])
  for mask, box in zip(planes[:2], boxes[:2], strict=True):
    rows, columns = np.nonzero(mask)
    edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    np.testing.assert_array_equal(box, edges)


@pytest.mark.parametrize("repeats", [1, 100])
def test_areas_equal_the_pixel_counts(planes, repeats):
  """Also of many: pycocotools fails at 256 in one call."""
  planes = np.tile(planes, (repeats, 1, 1))
  areas = encode(planes).areas()
  assert areas.dtype == np.int64
  np.testing.assert_array_equal(areas, planes.sum((1, 2)))


def test_an_image_without_masks():
  masks = RleMasks([], (7, 9))
  assert masks[:].shape == (0, 7, 9)
  assert masks[np.zeros(0, bool)].shape == (0, 7, 9)
  assert masks.boxes_xyxy().shape == (0, 4)
  assert masks.areas().shape == (0,)
