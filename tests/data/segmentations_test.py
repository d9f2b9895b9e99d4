"""Tests of solo_jax/data/segmentations.py."""

import base64

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from solo_jax.data.segmentations import Unreadable, read_segmentation

SIZE = [20, 30]
SQUARE = [[2, 3, 12, 3, 12, 9, 2, 9]]


def square_mask():
  mask = np.zeros(SIZE, np.uint8)
  mask[3:9, 2:12] = 1
  return mask


def compressed():
  return coco_mask.encode(np.asfortranarray(square_mask()))["counts"]


def runs():
  values = square_mask().T.ravel()
  edges = np.flatnonzero(np.diff(values)) + 1
  return np.diff(edges, prepend=0, append=values.size).tolist()


def rle(counts):
  return {"size": SIZE, "counts": counts}


@pytest.mark.parametrize(
  ("written", "repair"),
  [
    (SQUARE, None),
    (rle(runs()), None),
    (rle(compressed().decode()), None),
    (SQUARE[0], "polygon that is not in a list of polygons"),
    (
      [float(x) for x in SQUARE[0]],
      "polygon that is not in a list of polygons",
    ),
    (
      [[2, 3], [12, 3], [12, 9], [2, 9]],
      "polygon of point pairs that is not in",
    ),
    ([[[2, 3], [12, 3], [12, 9], [2, 9]]], "polygon of point pairs"),
    (
      [
        [
          {"x": 2, "y": 3},
          {"x": 12, "y": 3},
          {"x": 12, "y": 9},
          {"x": 2, "y": 9},
        ]
      ],
      "polygon of point pairs",
    ),
    (SQUARE + [[1, 1, 5, 5]], "part of fewer than 3 points"),
    (SQUARE + [[]], "part of fewer than 3 points"),
    (rle([float(x) for x in runs()]), "RLE whose counts are floats or text"),
    (rle([str(x) for x in runs()]), "RLE whose counts are floats or text"),
    (rle(" ".join(map(str, runs()))), "RLE whose counts are floats or text"),
    (rle(str(compressed())), "RLE whose counts are the text of bytes"),
    (rle(list(compressed())), "RLE whose counts are bytes as numbers"),
    (
      rle(base64.b64encode(compressed()).decode()),
      "RLE whose counts are base64",
    ),
    ({"size": [20.0, "30"], "counts": runs()}, "RLE whose size is not of int"),
  ],
)
def test_forms_of_one_mask(written, repair):
  mask = read_segmentation(written, SIZE)
  np.testing.assert_array_equal(coco_mask.decode(mask.rle), square_mask())
  assert len(mask.repairs) >= (repair is not None)
  if repair:
    assert mask.repairs[0].startswith(repair)


def test_bytes_with_backslashes():
  """The text of bytes doubles each backslash."""
  rng = np.random.default_rng(0)
  while True:
    mask = np.asfortranarray(rng.random(SIZE) < 0.5, np.uint8)
    counts = coco_mask.encode(mask)["counts"]
    if b"\\" in counts:
      break
  for text in (str(counts), str(counts)[2:-1]):
    found = read_segmentation(rle(text), SIZE)
    np.testing.assert_array_equal(coco_mask.decode(found.rle), mask)
    assert found.repairs


@pytest.mark.parametrize(
  ("written", "kind", "detail"),
  [
    (
      {"size": [30, 20], "counts": [600]},
      "RLE of another size than its image",
      "either here only or also in the order",
    ),
    (rle([10, 5]), "RLE counts over another number of pixels", "15 pixels"),
    (rle([float("nan")] * 2), "RLE counts that are not run lengths", "not run"),
    (rle([10.5, 589.5]), "RLE counts that are not run lengths", "not run"),
    (rle("b'"), "compressed RLE that cannot be decoded", "character"),
    (
      rle("__import__('os')"),
      "compressed RLE that cannot be decoded",
      "cannot",
    ),
    (
      SQUARE + [[1, 1, 5, 1, 5, 5, 3]],
      "polygon of an odd number of coordinates",
      "7 numbers",
    ),
    ([[1, 1, 5, 5]], "polygon of fewer than 3 points", "4 numbers"),
    (
      [[1, 1, float("inf"), 1, 5, 5]],
      "polygon that is not a list of numbers",
      "inf",
    ),
    (
      [[[1, 1], [2, "x"], [3, 3]]],
      "polygon that is not a list of numbers",
      "x",
    ),
    ([[40, 3, 52, 3, 52, 9]], "mask without a pixel", "inside its image"),
    (rle([600]), "mask without a pixel", "inside its image"),
    (None, "annotation without a mask", "None"),
  ],
)
def test_what_is_no_mask_is_named(written, kind, detail):
  with pytest.raises(Unreadable, match=detail) as caught:
    read_segmentation(written, SIZE)
  assert caught.value.kind == kind
