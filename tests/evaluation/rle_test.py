"""Tests of solo_jax/evaluation/rle.py."""

import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
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


def test_an_empty_list_of_masks():
  assert rle.encode(np.zeros((0, 4, 5), bool)) == []
  assert rle.decode([], (4, 5)).shape == (0, 4, 5)
  assert rle.areas([]).shape == (0,)


def test_refuses_another_size():
  rles = rle.encode(np.zeros((1, 4, 5), bool))
  with pytest.raises(ValueError, match=r"mask 0 has size \(4, 5\), its image"):
    rle.decode(rles, (5, 4))


@pytest.mark.parametrize(
  ("counts", "message"),
  [
    ([5], "mask 0 has runs over 5 pixels, its image has 6"),
    ([], "runs over 0 pixels"),
    ([7, -1], "runs over 6 pixels, .* damaged"),
    ("", "runs over 0 pixels"),
    ("0" * 1000, "runs over 0 pixels"),
    ("3", "runs over 3 pixels"),
    ("6P", "is not a compressed RLE"),
    ("6 ", "is not a compressed RLE"),
    ("6\u00e9", "is not a compressed RLE"),
    ("P" * 10**6 + "0", "number of more than 7 characters"),
  ],
)
def test_damaged_rle_is_refused(counts, message):
  """pycocotools decodes most of these into memory that it never filled."""
  with pytest.raises(ValueError, match=message):
    rle.decode([{"size": [2, 3], "counts": counts}], (2, 3))


# Few sizes, or nearly every example would have an image of a few pixels.
SIZES = st.sampled_from([(1, 1), (1, 9), (9, 1), (5, 7), (16, 16), (40, 33)])


@hypothesis.given(SIZES.flatmap(lambda size: st_numpy.arrays(bool, (2, *size))))
def test_any_mask_is_encoded_as_by_pycocotools_and_back(masks):
  """Whole, by the columns of its box, and as a crop of it."""
  size = masks.shape[1:]
  expected = coco_mask.encode(
    np.asfortranarray(masks.transpose(1, 2, 0), np.uint8)
  )
  expected = [dict(x, counts=x["counts"].decode()) for x in expected]
  boxes = tight_boxes(masks)
  assert rle.encode(masks) == rle.encode(masks, boxes) == expected
  left, top, right, bottom = boxes.astype(int).T
  cropped = types.CroppedMasks(
    size=size,
    corners=list(zip(top, left, strict=True)),
    crops=[
      m[t:b, x:r]
      for m, t, b, x, r in zip(masks, top, bottom, left, right, strict=True)
    ],
  )
  assert rle.encode(cropped) == expected
  np.testing.assert_array_equal(cropped.to_dense(), masks)
  np.testing.assert_array_equal(rle.decode(expected, size), masks)
  np.testing.assert_array_equal(rle.areas(expected), masks.sum((1, 2)))


@hypothesis.given(st.lists(st.integers(0, 2**29), min_size=1, max_size=20))
def test_any_runs_are_read_as_pycocotools_wrote_them(runs):
  """Up to the largest image; zeros in the middle included."""
  written = coco_mask.frPyObjects({"size": [1, 1], "counts": runs}, 1, 1)
  np.testing.assert_array_equal(rle._runs(written["counts"]), runs)


@hypothesis.given(
  st.lists(st.integers(-2, 9), max_size=8)
  | st.text(max_size=9)
  | st.text([chr(x) for x in range(46, 114)], max_size=9)
)
def test_any_counts_are_a_mask_or_refused(counts):
  try:
    (mask,) = rle.decode([{"size": [2, 3], "counts": counts}], (2, 3))
  except ValueError:
    return
  assert mask.shape == (2, 3) and mask.dtype == bool
  again = rle.decode(rle.encode(mask[None]), (2, 3))
  np.testing.assert_array_equal(again[0], mask)


def test_boxes_are_tight():
  masks = np.zeros((3, 9, 11), bool)
  masks[0, 2:5, 3:9] = True
  masks[1, 8, 10] = masks[1, 0, 4] = True
  np.testing.assert_array_equal(
    rle.boxes(rle.encode(masks)),
    [[3, 2, 9, 5], [4, 0, 11, 9], [0, 0, 0, 0]],
  )
  assert rle.boxes([]).shape == (0, 4)
