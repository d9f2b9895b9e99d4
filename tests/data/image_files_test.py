"""Tests of solo_jax/data/image_files.py."""

import resource
import struct

import cv2
import numpy as np
import pytest

from solo_jax.data.image_files import is_complete, to_jpeg_or_png
from solo_jax.data.label_files import read_label_image
from solo_jax.errors import UserError


def encode(suffix, image):
  return cv2.imencode(suffix, image)[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_jpeg_and_png_stay_untouched(suffix):
  encoded = encode(suffix, np.zeros((3, 5, 3), np.uint8))
  assert to_jpeg_or_png(encoded) is encoded


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3)])
def test_tiff_becomes_png_without_loss(dtype, shape):
  rng = np.random.default_rng(0)
  image = rng.integers(0, np.iinfo(dtype).max, shape, dtype)
  png = to_jpeg_or_png(encode(".tiff", image))
  assert png.startswith(b"\x89PNG")
  decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
  np.testing.assert_array_equal(decoded, image)


def test_unusable_images():
  with pytest.raises(UserError, match="found float32 pixels"):
    to_jpeg_or_png(encode(".tiff", np.zeros((3, 5), np.float32)))
  with pytest.raises(UserError, match="not a readable image"):
    to_jpeg_or_png(b"text")
  with pytest.raises(UserError, match="cannot decode the label image"):
    read_label_image(b"text")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".bmp"])
def test_truncated_images_are_refused(suffix):
  rng = np.random.default_rng(0)
  encoded = encode(suffix, rng.integers(0, 255, (40, 50, 3), np.uint8))
  assert is_complete(encoded)
  to_jpeg_or_png(encoded)
  assert not is_complete(encoded[: len(encoded) // 2])
  with pytest.raises(UserError, match="truncated"):
    to_jpeg_or_png(encoded[: len(encoded) // 2])


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_bytes_behind_the_end_are_allowed(suffix):
  encoded = encode(suffix, np.zeros((3, 5, 3), np.uint8)) + b"made by a camera"
  assert to_jpeg_or_png(encoded) is encoded


def test_damaged_png_is_refused():
  encoded = bytearray(encode(".png", np.arange(3000, dtype=np.uint8)[None]))
  encoded[60:70] = bytes(10)
  with pytest.raises(UserError, match="not a readable image"):
    to_jpeg_or_png(bytes(encoded))


def test_bmp_becomes_png():
  image = np.arange(15, dtype=np.uint8).reshape(3, 5)
  png = to_jpeg_or_png(encode(".bmp", image))
  decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
  np.testing.assert_array_equal(decoded.reshape(3, 5, -1)[..., 0], image)
  np.testing.assert_array_equal(read_label_image(encode(".bmp", image)), image)


def test_chunk_that_claims_gigabytes_is_not_believed():
  """OpenCV would take 2 GB for this file of 173 bytes."""
  png = bytearray(encode(".png", np.zeros((8, 8), np.uint8)))
  at = png.index(b"IDAT") - 4
  png[at : at + 4] = struct.pack(">I", 2**31 - 1)
  for tail in (b"", bytes(png[-12:])):  # also with another end behind it
    assert not is_complete(bytes(png) + tail)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="not a readable image, or truncated"):
      to_jpeg_or_png(bytes(png) + tail)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 100_000  # kB
