"""Files of a folder or of a zip archive, read in place, and image headers."""

import io
import pathlib
import zipfile
import zlib
from collections.abc import Sequence

import cv2
import numpy as np
import PIL.Image

# What Pillow raises for a file that is no image, damaged or gigantic.
_UNREADABLE = (
  OSError,
  SyntaxError,
  ValueError,
  zlib.error,
  PIL.Image.DecompressionBombError,
)


class FileTree:
  """The files below a folder, or in a zip archive, by relative name.

  If all members of an archive lie in one top folder, as those of COCO do,
  names are relative to that folder.

  Attributes:
    path: The folder or archive.
  """

  def __init__(self, path: str | pathlib.Path):
    """Opens a folder or an archive.

    Args:
      path: Of the folder or archive.

    Raises:
      FileNotFoundError: If there is nothing.
      ValueError: If it is a file but not a readable zip archive.
    """
    self.path = pathlib.Path(path)
    self._archive, self._prefix = None, ""
    if self.path.is_dir():
      return
    if not self.path.exists():
      raise FileNotFoundError(
        f"{path}: no such folder or zip archive; check the path."
      )
    try:
      self._archive = zipfile.ZipFile(self.path)
    except zipfile.BadZipFile as error:
      raise ValueError(
        f"{path}: expected a folder or a zip archive, but: {error}. If it was "
        "downloaded, the download may be incomplete."
      ) from error
    self._members = {x for x in self._archive.namelist() if x[-1] != "/"}
    tops = {name.partition("/")[0] for name in self._members}
    if len(tops) == 1 and all("/" in name for name in self._members):
      self._prefix = tops.pop() + "/"

  def __contains__(self, name: str) -> bool:
    if self._archive:
      return self._prefix + name in self._members
    return (self.path / name).is_file()

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
      ValueError: If the archive is damaged there.
    """
    try:
      with self.open(name) as file:
        return file.read()
    except (zipfile.BadZipFile, zlib.error) as error:
      raise ValueError(f"damaged in {self.path}: {error}") from error

  def read_header(self, name: str) -> tuple[tuple[int, int], str]:
    """Reads the size of an image without decoding it.

    Args:
      name: Of a file in the tree.

    Returns:
      (height, width) as stored, EXIF orientation ignored, and Pillow's mode,
      such as 'RGB' or 'I;16'.

    Raises:
      ValueError: If the file is no image.
    """
    try:
      with self.open(name) as file, PIL.Image.open(file) as image:
        return (image.height, image.width), image.mode
    except (*_UNREADABLE, zipfile.BadZipFile) as error:
      raise ValueError(f"file {name} is no readable image") from error

  def __repr__(self) -> str:
    return str(self.path)


def is_complete(encoded: bytes) -> bool:
  """Tells whether an image file ends where it should, mostly without decoding.

  OpenCV fills what a truncated file lacks with grey and returns it. Nearly
  every JPEG and PNG file ends with its end marker; Pillow judges the few that
  do not, and files of other kinds.

  Args:
    encoded: An image file.

  Returns:
    False for a file that Pillow cannot decode to its end.
  """
  if encoded.endswith((b"\xff\xd9", b"IEND\xaeB`\x82")):
    return True
  try:
    with PIL.Image.open(io.BytesIO(encoded)) as image:
      image.load()
  except _UNREADABLE:
    return False
  return True


def to_jpeg_or_png(encoded: bytes) -> bytes:
  """Returns JPEG and PNG bytes untouched, other images losslessly as PNG.

  Args:
    encoded: An image file, 8 or 16 bit. The pixels of a JPEG are not decoded:
      only its end is looked at.

  Returns:
    Bytes of a JPEG or PNG file.

  Raises:
    ValueError: If the image cannot be decoded or is neither 8 nor 16 bit.
  """
  if encoded.startswith(b"\xff\xd8\xff"):
    if not is_complete(encoded):
      raise ValueError("the file is truncated")
    return encoded
  flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
  try:
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
  except cv2.error as error:  # more pixels than OpenCV reads, for example
    raise ValueError(f"not readable: {error.err}") from error
  if image is None:
    raise ValueError("not a readable image, or truncated")
  if image.dtype not in (np.uint8, np.uint16):
    raise ValueError(
      f"expected an image of 8 or 16 bit, found {image.dtype} pixels"
    )
  if not is_complete(encoded):
    raise ValueError("the file is truncated")
  if encoded.startswith(b"\x89PNG\r\n\x1a\n"):
    return encoded
  return cv2.imencode(".png", image)[1].tobytes()


def read_label_image(encoded: bytes) -> np.ndarray:
  """Decodes a label image; of a palette image the indices count.

  Args:
    encoded: A one-channel PNG, TIFF or BMP file.

  Returns:
    [H, W] int64; 0 is background.

  Raises:
    ValueError: If it cannot be decoded.
  """
  try:
    with PIL.Image.open(io.BytesIO(encoded)) as image:
      return np.asarray(image).astype(np.int64)
  except _UNREADABLE as error:
    raise ValueError(f"cannot decode the label image: {error}") from error
