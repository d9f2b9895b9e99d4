"""Tests of solo_jax/evaluation/rle.py."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from solo_jax import types
from solo_jax.evaluation import rle


def random_masks(seed=0):
  """Masks of every awkward kind: empty, full, corners, noise."""
  rng = np.random.default_rng(seed)
  masks = np.zeros((9, 7, 11), bool)
  masks[1] = True
  masks[2, 0, 0] = True
  masks[3, -1, -1] = True
  masks[4, :, 4] = True  # whole columns
  masks[5, 2:5, 3:6] = True
  masks[6, -1, 5] = True  # last pixel of a column that is not the last
  masks[7] = rng.random((7, 11)) > 0.5
  masks[8, :, 2:] = rng.random((7, 9)) > 0.5
  return masks


def tight_boxes(masks):
  boxes = np.zeros((len(masks), 4))
  for i, mask in enumerate(masks):
    rows, columns = np.nonzero(mask)
    if len(rows):
      boxes[i] = (
        columns.min(),
        rows.min(),
        columns.max() + 1,
        rows.max() + 1,
      )
  return boxes


@pytest.mark.parametrize("seed", range(5))
def test_cropped_masks_equal_dense_ones(seed):
  rng = np.random.default_rng(seed)
  corners = [(0, 0), (5, 3), (7, 10), (2, 0)]
  crops = [rng.random((3, 4)) < 0.6 for _ in corners]
  crops[2] = np.ones((3, 4), bool)  # up to the last pixel
  masks = types.CroppedMasks(size=(10, 14), corners=corners, crops=crops)
  dense = masks.to_dense()
  assert dense.shape == masks.shape == (4, 10, 14)
  for i, mask in enumerate(masks):
    np.testing.assert_array_equal(mask, dense[i])
  assert rle.encode(masks) == rle.encode(dense)
  np.testing.assert_array_equal(masks[1:3].to_dense(), dense[1:3])


@pytest.mark.parametrize("order", ["C", "column-major planes"])
@pytest.mark.parametrize("with_boxes", [False, True])
def test_equals_pycocotools(order, with_boxes):
  masks = random_masks()
  boxes = tight_boxes(masks) if with_boxes else None
  if order != "C":
    masks = np.ascontiguousarray(masks.transpose(0, 2, 1)).transpose(0, 2, 1)
  expected = coco_mask.encode(
    np.asfortranarray(masks.transpose(1, 2, 0), np.uint8)
  )
  found = rle.encode(masks, boxes)
  assert [x["counts"].encode() for x in found] == [
    x["counts"] for x in expected
  ]
  assert all(x["size"] == [7, 11] for x in found)


def test_runs_by_hand():
  # Column by column: 0 1 | 1 1 | 0 0, so one 0, three 1, two 0.
  (found,) = rle.encode(np.array([[[0, 1, 0], [1, 1, 0]]], bool))
  expected = coco_mask.frPyObjects({"size": [2, 3], "counts": [1, 3, 2]}, 2, 3)
  assert found["counts"].encode() == expected["counts"]


def test_decode_undoes_encode_through_json():
  masks = random_masks()
  text = json.dumps(rle.encode(masks))
  decoded = rle.decode(json.loads(text), (7, 11))
  np.testing.assert_array_equal(decoded, masks)
  assert decoded.transpose(0, 2, 1).flags.c_contiguous
  np.testing.assert_array_equal(rle.areas(json.loads(text)), masks.sum((1, 2)))


def test_decodes_uncompressed_counts():
  masks = rle.decode([{"size": [2, 3], "counts": [1, 3, 2]}], (2, 3))
  np.testing.assert_array_equal(masks[0], [[0, 1, 0], [1, 1, 0]])


def test_nothing():
  assert rle.encode(np.zeros((0, 4, 5), bool)) == []
  assert rle.decode([], (4, 5)).shape == (0, 4, 5)
  assert rle.areas([]).shape == (0,)


def test_refuses_another_size():
  rles = rle.encode(np.zeros((1, 4, 5), bool))
  with pytest.raises(ValueError, match=r"mask 0 has size \(4, 5\), its image"):
    rle.decode(rles, (5, 4))
