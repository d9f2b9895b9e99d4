"""Files of a folder or of a zip archive, read in place, and image headers.

Files come from anywhere. Nothing is unpacked to disk, no name leads out of the
folder, and the size that an image declares is read before its pixels are: a
file of a kilobyte may declare gigabytes of them.
"""

import io
import lzma
import os
import pathlib
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import cv2
import numpy as np
import PIL.Image

from solo_jax.errors import UserError

# Pixels of the largest image that is read unless a command is told otherwise:
# 16,384 x 16,384, 0.8 GB as 8-bit colour.
MAX_PIXELS = 2**28
# Beyond, the differences of COCO's run lengths leave 30 bits with a sign.
PIXELS_LIMIT = 2**29
# Bytes of the largest file that is read as a whole.
_MAX_BYTES = 2**32
_PNG = b"\x89PNG\r\n\x1a\n"
# For the whole process: Pillow's limit cannot be set for one call, and its
# message does not name our flag. read_header checks ours first.
PIL.Image.MAX_IMAGE_PIXELS = None
# What opening or reading an archive raises: where it is damaged, encrypted
# (RuntimeError), or packed in a way that Python does not know
# (NotImplementedError, which is a RuntimeError).
_DAMAGED = (
  EOFError,
  OSError,
  RuntimeError,
  lzma.LZMAError,
  zipfile.BadZipFile,
  zlib.error,
)


class FileTree:
  """The files below a folder, or in a zip archive, by relative name.

  If all members of an archive lie in one top folder, as those of COCO do,
  names are relative to that folder.

  Attributes:
    path: The folder or archive.
  """

  def __init__(self, path: str | pathlib.Path, max_pixels: int = MAX_PIXELS):
    """Opens a folder or an archive.

    Args:
      path: Of the folder or archive.
      max_pixels: Images that declare more are refused.

    Raises:
      UserError: If there is nothing.
      UserError: If it is a file but not a readable zip archive, or an archive
        with a member that would lie outside of the folder it is unpacked in.
    """
    self.path = pathlib.Path(path)
    self._max_pixels = max_pixels
    self._archive, self._prefix = None, ""
    if self.path.is_dir():
      return
    if not self.path.exists():
      raise UserError(f"{path}: no such folder or zip archive; check the path.")
    try:
      self._archive = zipfile.ZipFile(self.path)
    except (*_DAMAGED, UserError, ValueError, struct.error) as error:
      raise UserError(
        f"{path}: expected a folder or a zip archive, but: {error}. If it was "
        "downloaded, the download may be incomplete."
      ) from error
    for member in self._archive.infolist():
      if is_outside(member.filename) or stat.S_ISLNK(
        member.external_attr >> 16
      ):
        raise UserError(
          f"{path}: the member {member.filename!r} leads out of the archive: "
          "only files below it are read, no links. Pack the files themselves."
        )
    names = self._archive.namelist()
    self._members = {x for x in names if x and not x.endswith("/")}
    tops = {name.partition("/")[0] for name in self._members}
    if len(tops) == 1 and all("/" in name for name in self._members):
      self._prefix = tops.pop() + "/"

  def __contains__(self, name: str) -> bool:
    if self._archive:
      return self._prefix + name in self._members
    # Unlike pathlib's, also False for a name that no file can have.
    return not is_outside(name) and os.path.isfile(self.path / name)

  def list_names(self) -> Sequence[str]:
    """Returns the relative names of all files, sorted."""
    if self._archive:
      start = len(self._prefix)
      return sorted(name[start:] for name in self._members)
    files = (x for x in self.path.rglob("*") if x.is_file())
    return sorted(x.relative_to(self.path).as_posix() for x in files)

  def open(self, name: str):
    """Opens a file of the tree for reading bytes."""
    if self._archive:
      return self._archive.open(self._prefix + name)
    return open(self.path / name, "rb")

  def read(self, name: str) -> bytes:
    """Returns the content of a file of the tree.

    Raises:
      UserError: If the archive is damaged there, or the file has more than
        4 GiB: a member of an archive may be packed a thousand times smaller.
    """
    if self._archive:
      num_bytes = self._archive.getinfo(self._prefix + name).file_size
    else:
      num_bytes = os.path.getsize(self.path / name)
    if num_bytes > _MAX_BYTES:
      raise UserError(
        f"{name} in {self.path} has {num_bytes / 2**30:.1f} GiB; files of up "
        f"to {_MAX_BYTES / 2**30:g} GiB are read"
      )
    try:
      with self.open(name) as file:
        return file.read()
    except _DAMAGED as error:
      if not self._archive:
        raise
      raise UserError(f"damaged in {self.path}: {error}") from error

  def read_header(self, name: str) -> tuple[tuple[int, int], str]:
    """Reads the size of an image without decoding it.

    Args:
      name: Of a file in the tree.

    Returns:
      (height, width) as stored, EXIF orientation ignored, and Pillow's mode,
      such as 'RGB' or 'I;16'.

    Raises:
      UserError: If the file is no image, or has too many pixels.
    """
    try:
      with self.open(name) as file:
        return read_header(file, self._max_pixels)
    except _DAMAGED as error:
      raise UserError(f"file {name} is not an image, or damaged") from error
    except (UserError, ValueError) as error:
      raise UserError(f"file {name} is {error}") from error

  def __repr__(self) -> str:
    return str(self.path)


def is_outside(name: str) -> bool:
  """Tells whether a relative name leads out of its folder, on any system."""
  path = name.replace("\\", "/")
  return ".." in path.split("/") or bool(re.match("/|[A-Za-z]:/", path))


def is_text(value: Any) -> bool:
  """Tells whether a value is a string that UTF-8 can write."""
  if not isinstance(value, str):
    return False
  try:
    value.encode()
  except UnicodeEncodeError:  # half of a surrogate pair
    return False
  return True


def read_header(file: BinaryIO, max_pixels: int) -> tuple[tuple[int, int], str]:
  """Reads the size of an image without decoding it.

  Args:
    file: An image file.
    max_pixels: Bound of height times width.

  Returns:
    (height, width) as stored, EXIF orientation ignored, and Pillow's mode,
    such as 'RGB' or 'I;16'.

  Raises:
    UserError: If the file is no image, or declares more pixels.
  """
  try:
    with PIL.Image.open(file) as image:
      (width, height), mode = image.size, image.mode
  except Exception as error:  # Pillow's parsers raise nearly anything
    raise UserError("not an image, or damaged") from error
  if height * width > max_pixels:
    raise UserError(
      f"too large: its header declares {height} x {width} pixels (height x "
      f"width), more than --max_pixels={max_pixels}"
    )
  return (height, width), mode


def is_complete(encoded: bytes) -> bool:
  """Tells whether an image file ends where it should, mostly without decoding.

  To be asked before OpenCV is: it fills what a truncated file lacks with grey
  and returns it, and takes as much memory as a chunk of a PNG file claims to
  have bytes. Nearly every JPEG file ends with its end marker; Pillow judges the
  few that do not, and files of other kinds than these two.

  Args:
    encoded: An image file.

  Returns:
    False for a file that cannot be decoded to its end.
  """
  if encoded.startswith(_PNG):
    return _has_all_chunks(encoded)
  if encoded.endswith(b"\xff\xd9"):
    return True
  try:
    with PIL.Image.open(io.BytesIO(encoded)) as image:
      image.load()
  except Exception:  # Pillow's decoders raise nearly anything
    return False
  return True


def _has_all_chunks(png: bytes) -> bool:
  """Walks along the chunks: length, kind, as many bytes, checksum."""
  start = len(_PNG)
  while (kind := png[start + 4 : start + 8]) and kind != b"IEND":
    start += 12 + int.from_bytes(png[start : start + 4])
  return kind == b"IEND"


def to_jpeg_or_png(encoded: bytes) -> bytes:
  """Returns JPEG and PNG bytes untouched, other images losslessly as PNG.

  Args:
    encoded: An image file, 8 or 16 bit. The pixels of a JPEG are not decoded:
      only its end is looked at.

  Returns:
    Bytes of a JPEG or PNG file.

  Raises:
    UserError: If the image cannot be decoded or is neither 8 nor 16 bit.
  """
  if not is_complete(encoded):
    raise UserError("not a readable image, or truncated")
  if encoded.startswith(b"\xff\xd8\xff"):
    return encoded
  flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
  try:
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
  except cv2.error as error:  # more pixels than OpenCV reads, for example
    raise UserError(f"not readable: {error.err}") from error
  if image is None:
    raise UserError("not a readable image")
  if image.dtype not in (np.uint8, np.uint16):
    raise UserError(
      f"expected an image of 8 or 16 bit, found {image.dtype} pixels"
    )
  if encoded.startswith(_PNG):
    return encoded
  return cv2.imencode(".png", image)[1].tobytes()


def read_label_image(encoded: bytes) -> np.ndarray:
  """Decodes a label image; of a palette image the indices count.

  Args:
    encoded: A one-channel PNG, TIFF or BMP file.

  Returns:
    [H, W] int64; 0 is background.

  Raises:
    UserError: If it cannot be decoded.
  """
  try:
    with PIL.Image.open(io.BytesIO(encoded)) as image:
      return np.asarray(image).astype(np.int64)
  except Exception as error:  # Pillow's decoders raise nearly anything
    raise UserError(f"cannot decode the label image: {error}") from error
