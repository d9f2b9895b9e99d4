"""Tests of solo_jax/media/reading.py."""

import io
import pathlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from solo_jax.errors import UserError
from solo_jax.media.reading import ImageReader


def test_colours_grey_and_alpha_become_rgb(tmp_path):
  rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
  alpha = np.full((2, 4, 1), 9, np.uint8)
  cv2.imwrite(str(tmp_path / "a.png"), rgb[..., ::-1])
  cv2.imwrite(
    str(tmp_path / "b.png"), np.concatenate([rgb[..., ::-1], alpha], axis=2)
  )
  cv2.imwrite(str(tmp_path / "c.png"), rgb[..., 0].astype(np.uint16) * 257)
  np.testing.assert_array_equal(ImageReader().read(tmp_path / "a.png"), rgb)
  np.testing.assert_array_equal(ImageReader().read(tmp_path / "b.png"), rgb)
  grey = ImageReader().read(tmp_path / "c.png")
  assert grey.dtype == np.uint16
  np.testing.assert_array_equal(
    grey, np.repeat(rgb[..., :1], 3, axis=2).astype(np.uint16) * 257
  )


def test_empty_and_cut_files_are_refused(tmp_path):
  cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 64, 3), np.uint8))
  data = (tmp_path / "a.png").read_bytes()
  for name, content, message in (
    ("empty", b"", "the file is empty"),
    ("cut", data[: len(data) // 2], "not a readable image, or truncated"),
  ):
    path = tmp_path / f"{name}.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
      ImageReader().read(path)


@pytest.mark.parametrize(
  ("suffix", "dtype", "channels"),
  [
    (".png", np.uint8, 1),
    (".png", np.uint8, 3),
    (".png", np.uint8, 4),
    (".png", np.uint16, 1),
    (".png", np.uint16, 3),
    (".tiff", np.uint8, 1),
    (".tiff", np.uint16, 1),
    (".tiff", np.uint16, 3),
    (".bmp", np.uint8, 3),
  ],
)
def test_reads_every_kind_as_rgb(tmp_path, suffix, dtype, channels):
  rng = np.random.default_rng(0)
  image = rng.integers(0, np.iinfo(dtype).max, (7, 9, channels), dtype)
  bgr = image if channels == 1 else image[..., [2, 1, 0, 3][:channels]]
  path = tmp_path / f"x{suffix}"
  assert cv2.imwrite(str(path), bgr)
  read = ImageReader().read(path)
  assert read.dtype == dtype and read.shape == (7, 9, 3)
  expected = np.repeat(image, 3, 2) if channels == 1 else image[..., :3]
  np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("suffix", ["tif", "png", "gif", "webp"])
def test_pages_are_read_one_by_one_and_animations_refused(tmp_path, suffix):
  rng = np.random.default_rng(0)
  pages = rng.integers(0, 255, (3, 8, 9), np.uint8)
  path = tmp_path / f"x.{suffix}"
  first, *others = (Image.fromarray(page) for page in pages)
  first.save(path, save_all=True, append_images=others)
  if suffix != "tif":
    with pytest.raises(UserError, match="an animation of 3 pictures: save"):
      ImageReader().open(path)
    return
  found = ImageReader().open(path)
  assert len(found) == 3
  for image, page in zip(found, pages, strict=True):
    np.testing.assert_array_equal(image, np.repeat(page[..., None], 3, 2))
  with pytest.raises(UserError, match="a stack of 3 pages"):
    ImageReader().read(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_followed_where_the_records_did(
  tmp_path, suffix, orientation
):
  """Pillow's own transposition is the oracle."""
  stored = np.zeros((16, 32, 3), np.uint8)
  stored[:8, :16] = 255
  stored[8:, :8] = 90
  exif = Image.Exif()
  exif[0x0112] = orientation
  options = dict(quality=100, subsampling=0) if suffix == "jpg" else {}
  path = tmp_path / f"x.{suffix}"
  Image.fromarray(stored).save(path, exif=exif, **options)
  with Image.open(path) as image:
    expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    ignored = np.asarray(image.convert("RGB"))
  found = ImageReader(exif="apply").read(path)
  assert found.shape == expected.shape and found.flags.c_contiguous
  assert np.abs(found.astype(int) - expected).max() <= 3
  if suffix != "tif":  # of which Pillow shows the turned pixels always
    assert np.abs(ImageReader().read(path).astype(int) - ignored).max() <= 3
  assert ImageReader().read(path).shape == (16, 32, 3)


def test_name_with_a_zero_in_it_is_no_file():
  with pytest.raises(UserError, match="cannot contain a zero"):
    ImageReader().read(pathlib.Path("a\0.png"))


def test_exif_orientation_is_ignored(tmp_path):
  """Masks fit the stored pixels, as in COCO."""
  stored = np.zeros((16, 32, 3), np.uint8)
  stored[:8] = 255
  exif = Image.Exif()
  exif[0x0112] = 6  # a viewer turns it by 90 degrees
  data = io.BytesIO()
  Image.fromarray(stored).save(data, "JPEG", quality=100, exif=exif)
  path = tmp_path / "turned.jpg"
  path.write_bytes(data.getvalue())
  read = ImageReader().read(path)
  assert read.shape == (16, 32, 3)
  assert read[2].min() > 200 and read[14].max() < 50
