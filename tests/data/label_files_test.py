"""Tests of solo_jax/data/label_files.py."""

import struct

import cv2
import numpy as np
import PIL.Image
import pytest

from solo_jax.data.label_files import read_label_image
from solo_jax.errors import UserError


def encode(suffix, image):
  return cv2.imencode(suffix, image)[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_image_values(suffix, dtype):
  labels = np.arange(15, dtype=dtype).reshape(3, 5)
  labels[0, 0] = np.iinfo(dtype).max
  np.testing.assert_array_equal(
    read_label_image(encode(suffix, labels))[0], labels
  )


def test_palette_indices_are_the_labels(tmp_path):
  labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
  image = PIL.Image.fromarray(labels).convert("P")
  image.putpalette([x for i in range(256) for x in (255 - i, i, 7)])
  image.save(tmp_path / "p.png")
  read, _ = read_label_image((tmp_path / "p.png").read_bytes())
  np.testing.assert_array_equal(read, labels)


def write_tiff(labels):
  """Writes an uncompressed TIFF file of any type, as tifffile does."""
  height, width = labels.shape
  kind = {"u": 1, "i": 2, "f": 3}[labels.dtype.kind]
  tags = ((256, width), (257, height), (258, 8 * labels.itemsize), (259, 1))
  tags += ((262, 1), (273, 8), (277, 1), (278, height), (279, labels.nbytes))
  tags += ((339, kind),)
  entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags]
  head = b"II*\0" + struct.pack("<I", 8 + labels.nbytes)
  directory = struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4)
  return head + labels.tobytes() + directory


@pytest.mark.parametrize(
  "dtype",
  [np.int16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64],
)
def test_whole_numbers_of_every_type(dtype):
  labels = np.zeros((9, 12), dtype)
  labels[2:5, 3:9], labels[6:, :4] = 1, 70_000 if labels.itemsize > 2 else 300
  found, name = read_label_image(write_tiff(labels))
  assert found.dtype == np.int64 and name == np.dtype(dtype).name
  np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e30])
def test_floats_that_are_no_labels(value):
  labels = np.zeros((9, 12), np.float32)
  labels[3, 4] = value
  with pytest.raises(UserError, match="has the value"):
    read_label_image(write_tiff(labels))


def test_integers_beyond_64_bits_with_a_sign():
  labels = np.full((9, 12), 2**64 - 1, np.uint64)
  with pytest.raises(UserError, match="which is not a label"):
    read_label_image(write_tiff(labels))


def test_colours_are_no_labels():
  with pytest.raises(UserError, match="has 4 channels; need one"):
    read_label_image(encode(".png", np.zeros((9, 12, 4), np.uint8)))
