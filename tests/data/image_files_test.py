"""Tests of solo_jax/data/image_files.py."""

import io
import resource
import struct
import zlib

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from solo_jax.data.image_files import (
  decode,
  is_complete,
  read_header,
  stored_size,
  to_jpeg_or_png,
  turn,
)
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
  np.testing.assert_array_equal(
    read_label_image(encode(".bmp", image))[0], image
  )


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_is_that_of_pillow(orientation):
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 255, (9, 12, 3), np.uint8)
  exif = PIL.Image.Exif()
  exif[0x0112] = orientation
  for suffix in ("PNG", "TIFF", "JPEG"):
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, suffix, exif=exif)
    header = read_header(io.BytesIO(file.getvalue()), 10**6)
    assert header.size == (9, 12) and header.orientation == orientation
    upright = PIL.ImageOps.exif_transpose(PIL.Image.open(file))
    assert header.turned_size == upright.size[::-1]
    stored = decode(file.getvalue())[..., ::-1]  # as stored, also of a TIFF
    if suffix != "JPEG":
      np.testing.assert_array_equal(stored, pixels)
    found = turn(stored, orientation)
    np.testing.assert_array_equal(found, np.asarray(upright.convert("RGB")))
    png = to_jpeg_or_png(file.getvalue(), orientation=orientation)
    if orientation > 1:
      assert (
        png.startswith(b"\x89PNG") and stored_size(png) == header.turned_size
      )


def two_sizes(side, *, spp=1):
  """A TIFF file that is 8 x 8 to Pillow and side x side to libtiff.

  Its tags come twice: first in a type that only libtiff knows.
  """
  big = zlib.compress(bytes(side * side * spp))
  data, entries, longs = big + bytes(64 * spp), [], []

  def twice(tag, kind, first, last):
    entries.append((tag, 17, len(longs)))
    longs.append(first)
    entries.append((tag, kind, last))

  twice(256, 4, side, 8)
  twice(257, 4, side, 8)
  entries.append((258, 3, 8))
  twice(259, 3, 8, 1)
  entries.append((262, 3, 1))
  twice(273, 4, 8, 8 + len(big))
  entries.append((277, 3, spp))
  twice(278, 4, side, 8)
  twice(279, 4, len(big), 64)
  where = 8 + len(data)
  directory = struct.pack("<H", len(entries))
  for tag, kind, value in entries:
    value = where + 8 * value if kind == 17 else value
    directory += struct.pack("<HHII", tag, kind, 1, value)
  longs = struct.pack(f"<{len(longs)}q", *longs)
  head = b"II*\0" + struct.pack("<I", where + len(longs))
  return head + data + longs + directory + bytes(4)


def test_size_that_readers_disagree_on_is_refused_undecoded():
  encoded = two_sizes(12_000)
  assert len(encoded) < 200_000
  with PIL.Image.open(io.BytesIO(encoded)) as image:
    assert image.size == (8, 8)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  for read in (lambda x: read_header(io.BytesIO(x), 10**6), to_jpeg_or_png):
    with pytest.raises(UserError, match="tag 256 has 1 values of type 17"):
      read(encoded)
  after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  assert after - before < 50_000  # kB; decoded it would be 144,000


def test_second_header_of_a_png_is_refused():
  png = encode(".png", np.zeros((8, 8), np.uint8))
  second = b"IHDR" + struct.pack(">II", 30_000, 30_000) + png[24:29]
  chunk = struct.pack(">I", 13) + second + struct.pack(">I", zlib.crc32(second))
  for at in (8, 33):  # in front of the first and behind it
    spoiled = png[:at] + chunk + png[at:]
    assert stored_size(spoiled) is None
    with pytest.raises(UserError):
      read_header(io.BytesIO(spoiled), 10**6)
    with pytest.raises(UserError, match="size twice"):
      to_jpeg_or_png(spoiled)


def test_second_frame_header_of_a_jpeg_is_refused():
  jpeg = encode(".jpg", np.zeros((8, 8, 3), np.uint8))
  at = jpeg.index(b"\xff\xc0")
  end = at + 2 + struct.unpack(">H", jpeg[at + 2 : at + 4])[0]
  frame = bytearray(jpeg[at:end])
  frame[5:9] = struct.pack(">HH", 30_000, 30_000)
  for spoiled in (
    jpeg[:at] + bytes(frame) + jpeg[at:],
    jpeg[:end] + bytes(frame) + jpeg[end:],
  ):
    assert stored_size(spoiled) is None
    with pytest.raises(UserError, match="size twice|not an image"):
      read_header(io.BytesIO(spoiled), 10**10)


def test_thumbnail_in_a_jpeg_is_no_second_header():
  small = encode(".jpg", np.zeros((4, 4, 3), np.uint8))
  jpeg = encode(".jpg", np.zeros((9, 12, 3), np.uint8))
  segment = b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small
  assert stored_size(jpeg[:2] + segment + jpeg[2:]) == (9, 12)


@pytest.mark.parametrize(
  "kind", ["GIF", "WEBP", "JPEG2000", "AVIF", "BMP", "PPM"]
)
def test_other_image_formats_equal_pillow(kind):
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 255, (20, 30, 3), np.uint8)
  file = io.BytesIO()
  PIL.Image.fromarray(pixels).save(file, kind)
  expected = np.asarray(PIL.Image.open(file).convert("RGB"))
  found = decode(file.getvalue())
  np.testing.assert_array_equal(found[..., ::-1], expected)
  assert (
    read_header(file, 10**6).size == (20, 30) if file.seek(0) == 0 else False
  )


def test_programs_are_not_run():
  """Pillow would hand PostScript to Ghostscript."""
  eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
  with pytest.raises(UserError, match="a PostScript document"):
    read_header(io.BytesIO(eps), 10**6)


@pytest.mark.parametrize("dtype", [np.int32, np.float64, np.float32])
def test_types_that_photographs_do_not_have_are_named(dtype):
  encoded = encode(".tiff", np.zeros((3, 5), dtype))
  with pytest.raises(UserError, match=f"found {np.dtype(dtype)} pixels"):
    to_jpeg_or_png(encoded)


def test_frames_of_an_animation_are_counted():
  frames = [PIL.Image.new("L", (9, 9), 80 * i) for i in range(3)]
  for kind in ("GIF", "PNG", "WEBP", "TIFF"):
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    file.seek(0)
    assert read_header(file, 10**6).num_pages == 3
