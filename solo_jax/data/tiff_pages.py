"""The directories of a TIFF file, read strictly.

Pillow, libtiff and others read a directory with repeated tags, or with types
that only some of them know, in different ways: one sees 8 x 8 pixels, another
allocates gigabytes. Such files are rejected here.

Source: TIFF 6.0; BigTIFF as libtiff writes it.
"""

import dataclasses
import math
import re
import struct
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from solo_jax.errors import UserError

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Files with more pages are rejected.
_MAX_PAGES = 10_000
_MAX_TAGS = 4096  # of a page
_MAX_VALUES = 2**22  # of a tag
# Types of whole numbers without a sign, and of text, by number.
_UNSIGNED = {1: "B", 2: "B", 3: "H", 4: "I", 16: "Q"}
# Tags that decide a decoder's allocations; each may occur at most once.
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _ORIENTATION = 254, 256, 257, 258, 274
_SAMPLES, _TILE_WIDTH, _TILE_HEIGHT, _FORMAT = 277, 322, 323, 339
_PARTS = ((273, 279), (324, 325))  # where strips and tiles are, their bytes
_SIZE_TAGS = (_WIDTH, _HEIGHT, _BITS, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT)
_READ_TAGS = (
  _SUBFILE,
  *_SIZE_TAGS,
  _ORIENTATION,
  _FORMAT,
  *sum(_PARTS, ()),
)
_DESCRIPTION = 270  # a text
_MAX_DESCRIPTION = 2**16
_IMAGEJ = re.compile(rb"^ImageJ=.*?\nimages=(\d{1,9})\n", re.DOTALL)
_KINDS = {1: "uint", 2: "int", 3: "float"}


@dataclasses.dataclass(frozen=True)
class Page:
  """One image of a TIFF file.

  Attributes:
    index: Position among all directories of the file.
    height: As stored, pixels.
    width: As stored, pixels.
    num_channels: Samples per pixel.
    dtype: Such as 'uint16' or 'float32'.
    orientation: Orientation of the tag, 1 without it.
    is_reduced: A smaller copy of another page, or a mask of it.
    tile_pixels: Pixels of a tile, 0 without tiles.
    end: Length of a file that contains the pixels, in bytes.
    num_images: Images after this header according to ImageJ, else 1.
  """

  index: int
  height: int
  width: int
  num_channels: int
  dtype: str
  orientation: int
  is_reduced: bool
  tile_pixels: int
  end: int
  num_images: int


def is_tiff(head: bytes) -> bool:
  """Returns whether a file begins as TIFF files do."""
  return head.startswith(_MAGIC)


def read_pages(file: BinaryIO) -> list[Page]:
  """Returns the directories of a TIFF file, without reading pixels.

  Args:
    file: An open file.

  Returns:
    Its pages, at least one.

  Raises:
    UserError: If the file is damaged, or declares its size twice or in a type
      that not every reader knows; the message continues after 'the file is'.
  """
  try:
    pages = [
      _make_page(index, tags) for index, tags in enumerate(_directories(file))
    ]
  except (struct.error, OverflowError, ValueError) as error:
    raise UserError("a damaged or truncated TIFF file") from error
  if not pages:
    raise UserError("a TIFF file without an image")
  return pages


def _unpack(file: BinaryIO, layout: str, offset: int) -> tuple[int, ...]:
  file.seek(offset)
  return struct.unpack(layout, file.read(struct.calcsize(layout)))


def _directories(file: BinaryIO) -> Iterator[Mapping[int, tuple[int, ...]]]:
  """Yields the tags that matter of each directory."""
  file.seek(0)
  magic = file.read(4)
  order = "<" if magic.startswith(b"II") else ">"
  is_big = b"+" in magic
  layout = order + ("Q" if is_big else "I")
  if is_big and _unpack(file, order + "HH", 4) != (8, 0):
    raise UserError("a damaged TIFF file: its offsets are not of 8 bytes")
  (offset,) = _unpack(file, layout, 8 if is_big else 4)
  count_layout = order + ("Q" if is_big else "H")
  seen = set()
  while offset:
    if offset in seen or len(seen) >= _MAX_PAGES:
      raise UserError(
        f"a TIFF file whose pages form a loop, or more than {_MAX_PAGES}"
      )
    seen.add(offset)
    (count,) = _unpack(file, count_layout, offset)
    if count > _MAX_TAGS:
      raise UserError(f"a damaged TIFF file: a page has {count} tags")
    offset += struct.calcsize(count_layout)
    yield _read_tags(file, offset, count, order, is_big)
    (offset,) = _unpack(file, layout, offset + (20 if is_big else 12) * count)


def _read_tags(
  file: BinaryIO, offset: int, count: int, order: str, is_big: bool
) -> dict[int, tuple[int, ...]]:
  """Returns the values of the tags that matter."""
  layout = order + ("HHQ" if is_big else "HHI")
  pointer = order + ("Q" if is_big else "I")
  head, inline = struct.calcsize(layout), struct.calcsize(pointer)
  tags = {}
  for start in range(offset, offset + count * (head + inline), head + inline):
    tag, kind, length = _unpack(file, layout, start)
    is_text = tag == _DESCRIPTION and kind == 2
    if tag not in _READ_TAGS and not (
      is_text and 0 < length < _MAX_DESCRIPTION
    ):
      continue
    if tag in tags and not is_text:
      raise UserError(f"a TIFF file that has the tag {tag} twice")
    if kind not in _UNSIGNED or not 0 < length <= _MAX_VALUES:
      raise UserError(
        f"a TIFF file whose tag {tag} has {length} values of type {kind}; need "
        "whole numbers"
      )
    values, where = f"{order}{length}{_UNSIGNED[kind]}", start + head
    if struct.calcsize(values) > inline:
      (where,) = _unpack(file, pointer, where)
    tags[tag] = _unpack(file, values, where)
  return tags


def _make_page(index: int, tags: Mapping[int, tuple[int, ...]]) -> Page:
  for tag in (_WIDTH, _HEIGHT):
    if tag not in tags:
      raise UserError(f"a TIFF file without the tag {tag} of its size")
  samples = tags.get(_SAMPLES, (1,))[0]
  bits = set(tags.get(_BITS, (1,)))
  formats = set(tags.get(_FORMAT, (1,)))
  if len(bits) > 1 or len(formats) > 1:
    raise UserError("a TIFF file whose channels differ in their type")
  ends = [
    start + length
    for where, sizes in _PARTS
    for start, length in zip(
      tags.get(where, ()), tags.get(sizes, ()), strict=False
    )
  ]
  stack = _IMAGEJ.search(bytes(tags.get(_DESCRIPTION, ())))
  kind = _KINDS.get(min(formats), "unknown")
  return Page(
    index=index,
    height=tags[_HEIGHT][0],
    width=tags[_WIDTH][0],
    num_channels=samples,
    dtype=f"{kind}{min(bits)}",
    orientation=tags.get(_ORIENTATION, (1,))[0],
    is_reduced=bool(tags.get(_SUBFILE, (0,))[0] & 5),
    end=max(ends, default=0),
    num_images=int(stack[1]) if stack else 1,
    tile_pixels=math.prod(
      tags.get(tag, (0,))[0] for tag in (_TILE_WIDTH, _TILE_HEIGHT)
    ),
  )
