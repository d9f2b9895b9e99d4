"""Tests of solo_jax/data/label_pieces.py."""

import hypothesis
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from solo_jax.data.label_pieces import encode_labels, number_pieces

FULL = np.ones((3, 3))  # pixels touch diagonally, too


@hypothesis.given(
  st.integers(1, 12),
  st.integers(1, 12),
  st.integers(1, 4),
  st.integers(0, 2**32),
)
def test_pieces_against_scipy(height, width, num_values, seed):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, num_values + 1, (height, width)) * 3
  numbers, counts = number_pieces(labels)
  assert ((numbers > 0) == (labels > 0)).all()
  found = 0
  for value in np.unique(labels[labels > 0]):
    expected, number = scipy.ndimage.label(labels == value, FULL)
    assert counts[value] == number
    found += number
    ours = numbers[labels == value]
    pairs = set(zip(ours, expected[labels == value], strict=True))
    assert len(pairs) == number == len(np.unique(ours))
  assert numbers.max(initial=0) == found == sum(counts.values())


def test_pieces_of_each_id_are_counted():
  rows, columns = np.mgrid[:40, :90]
  labels = np.zeros((40, 90), np.int64)
  for x in (10, 45, 80):
    labels[(rows - 20) ** 2 + (columns - x) ** 2 < 49] = 7
  labels[0, 0] = 3
  assert number_pieces(labels)[1] == {7: 3, 3: 1}


def test_images_without_objects():
  numbers, counts = number_pieces(np.zeros((3, 4), np.int64))
  assert not numbers.any() and counts == {}
  assert encode_labels(np.zeros((3, 4), int)) == {}


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (13, 8)])
def test_encoded_labels_against_pycocotools(shape):
  rng = np.random.default_rng(sum(shape))
  labels = rng.integers(0, 4, shape) * 5
  encoded = encode_labels(labels)
  assert list(encoded) == [x for x in np.unique(labels) if x]
  for value, rle in encoded.items():
    expected = coco_mask.encode(np.asfortranarray(labels == value, np.uint8))
    assert rle == expected
