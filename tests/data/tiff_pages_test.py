"""Tests of solo_jax/data/tiff_pages.py."""

import io
import struct

import numpy as np
import PIL.Image
import pytest

from solo_jax.data.tiff_pages import is_tiff, read_pages
from solo_jax.errors import UserError


def tiff(*tags, order="<", pages=1):
  """Writes directories of (tag, type, count, value); values lie inline."""
  head = b"II*\0" if order == "<" else b"MM\0*"
  data, at = head, 8
  data += struct.pack(order + "I", at)
  for page in range(pages):
    data += struct.pack(order + "H", len(tags))
    for tag, kind, count, value in tags:
      inline = struct.pack(
        order + ("HH" if kind == 3 else "I"),
        *((value, 0) if kind == 3 else (value,)),
      )
      data += struct.pack(order + "HHI", tag, kind, count) + inline
    at = len(data) + 4
    data += struct.pack(order + "I", at if page + 1 < pages else 0)
  return io.BytesIO(data)


SIZE = ((256, 4, 1, 12), (257, 3, 1, 9))


@pytest.mark.parametrize("order", ["<", ">"])
def test_size_in_both_orders(order):
  (page,) = read_pages(
    tiff(*SIZE, (258, 3, 1, 16), (339, 3, 1, 2), order=order)
  )
  assert (page.height, page.width, page.dtype) == (9, 12, "int16")
  assert (page.num_channels, page.orientation, page.is_reduced) == (1, 1, False)


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_files_of_pillow(mode):
  image = PIL.Image.new(mode, (12, 9))
  for compression in (None, "tiff_lzw", "tiff_deflate"):
    file = io.BytesIO()
    pages = [image] * 2
    image.save(
      file, "TIFF", compression=compression, save_all=True, append_images=pages
    )
    found = read_pages(file)
    assert is_tiff(file.getvalue()) and len(found) == 3
    assert [x.index for x in found] == [0, 1, 2]
    for page in found:
      assert (page.height, page.width) == (9, 12)
      assert page.num_channels == len(image.getbands())
      assert 0 < page.end <= len(file.getvalue())


def test_pages_at_lower_resolution_are_marked():
  (page,) = read_pages(tiff((254, 4, 1, 1), *SIZE))
  assert page.is_reduced


@pytest.mark.parametrize(
  ("file", "message"),
  [
    (tiff(*SIZE, (256, 4, 1, 8)), "has the tag 256 twice"),
    (tiff((256, 17, 1, 12), (257, 4, 1, 9)), "tag 256 has 1 values of type 17"),
    (tiff((256, 11, 1, 12), (257, 4, 1, 9)), "of type 11; need whole numbers"),
    (tiff((256, 4, 0, 12), (257, 4, 1, 9)), "has 0 values"),
    (tiff((257, 4, 1, 9)), "without the tag 256"),
    (io.BytesIO(b"II*\0"), "damaged or truncated"),
    (io.BytesIO(b"II*\0\0\0\0\0"), "without an image"),
    (io.BytesIO(b"II*\0\xff\xff\xff\xff"), "damaged or truncated"),
    (io.BytesIO(b"II*\0\x08\0\0\0\xff\xff"), "a page has 65535 tags"),
    (io.BytesIO(b"II*\0\x08\0\0\0\0\0\x08\0\0\0"), "without the tag 256"),
    (io.BytesIO(b"II+\0\x09\0\0\0" + bytes(8)), "not of 8 bytes"),
  ],
)
def test_what_readers_may_disagree_on_is_refused(file, message):
  with pytest.raises(UserError, match=message):
    read_pages(file)


def test_pages_in_a_loop():
  data = bytearray(tiff(*SIZE).getvalue())
  data[-4:] = struct.pack("<I", 8)
  with pytest.raises(UserError, match="form a loop"):
    read_pages(io.BytesIO(data))


def test_big_tiff():
  entries = struct.pack("<HHQQ", 256, 16, 1, 12) + struct.pack(
    "<HHQQ", 257, 4, 1, 9
  )
  data = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2) + entries + bytes(8)
  (page,) = read_pages(io.BytesIO(data))
  assert (page.height, page.width) == (9, 12)


def test_stack_of_imagej_behind_one_header():
  text = b"ImageJ=1.53\nimages=40\nslices=40\n\0"
  file = tiff(*SIZE, (270, 2, len(text), 0))
  data = bytearray(file.getvalue())
  at = data.index(struct.pack("<HH", 270, 2)) + 8
  data[at : at + 4] = struct.pack("<I", len(data))
  (page,) = read_pages(io.BytesIO(bytes(data) + text))
  assert page.num_images == 40


def test_tiles_are_counted():
  assert read_pages(tiff(*SIZE, (322, 4, 1, 64), (323, 4, 1, 32)))[
    0
  ].tile_pixels == (64 * 32)


def test_types_of_channels():
  rng = np.random.default_rng(0)
  image = PIL.Image.fromarray(rng.random((9, 12)).astype(np.float32))
  file = io.BytesIO()
  image.save(file, "TIFF")
  assert read_pages(file)[0].dtype == "float32"
