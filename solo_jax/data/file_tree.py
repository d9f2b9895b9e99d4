"""Files of a folder or of a zip archive, read in place.

Files are not trusted: no member is unpacked to disk, and no name can point
outside of the folder.
"""

import copy
import lzma
import os
import pathlib
import posixpath
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO

from solo_jax import file_kinds
from solo_jax.data import image_files
from solo_jax.errors import UserError

# Default limit of an image's pixels: 16,384 x 16,384, 0.8 GB as 8-bit colour.
MAX_PIXELS = 2**28
# Above this, differences of COCO's run lengths exceed 30 bits and sign.
PIXELS_LIMIT = 2**29
# Largest file that is read as a whole, in bytes.
_MAX_BYTES = 2**32
# Files that systems add: macOS metadata and thumbnails.
_LEFT_BEHIND = (".DS_Store", "__MACOSX", "Thumbs.db", "desktop.ini")
# Errors of opening or reading an archive that is damaged, encrypted
# (RuntimeError), or packed by a method unknown to Python (NotImplementedError,
# which is a RuntimeError).
_DAMAGED = (
  EOFError,
  OSError,
  RuntimeError,
  UnicodeDecodeError,
  lzma.LZMAError,
  zipfile.BadZipFile,
  zlib.error,
)


class FileTree:
  """The files below a folder, or in a zip archive, by relative name.

  If all members of an archive are in one top folder, as in COCO's, names are
  relative to that folder.

  Attributes:
    path: The folder or archive.
    is_copy: Whether it is an archive that was copied out of another one.
  """

  def __init__(self, path: str | pathlib.Path, max_pixels: int = MAX_PIXELS):
    """Opens a folder or an archive.

    Args:
      path: Path of the folder or archive.
      max_pixels: Images that declare more are refused.

    Raises:
      UserError: If the path does not exist, is a file but no readable zip
        archive, or is an archive with a member outside of its root.
    """
    self.path = pathlib.Path(path)
    self.is_copy = False
    self._max_pixels = max_pixels
    self._archive, self._prefix = None, ""
    if self.path.is_dir():
      return
    if not self.path.exists():
      raise UserError(f"{path}: no such folder or zip archive; check the path.")
    self._open_archive(self.path)

  def _open_archive(self, file: pathlib.Path | BinaryIO) -> None:
    """Reads the list of members; see `__init__`."""
    path = self.path
    try:
      self._archive = zipfile.ZipFile(file)
    except (*_DAMAGED, ValueError, struct.error) as error:
      found = what_file_is(file)
      if found not in (None, "a zip archive"):
        raise UserError(
          f"{path} is {found}; need a folder or a zip archive"
        ) from error
      raise UserError(
        f"{path}: expected a folder or a zip archive, but: {error}. If it was "
        "downloaded, the download may be incomplete."
      ) from error
    for member in self._archive.infolist():
      if is_outside(member.filename) or stat.S_ISLNK(
        member.external_attr >> 16
      ):
        raise UserError(
          f"{path}: the member {member.filename!r} points outside the archive: "
          "only files inside it are read, and no links. Pack the files."
        )
    names = self._archive.namelist()
    self._members = {
      x for x in names if x and not x.endswith("/") and not is_left_behind(x)
    }
    tops = {name.partition("/")[0] for name in self._members}
    if len(tops) == 1 and all("/" in name for name in self._members):
      self._prefix = tops.pop() + "/"

  def inner(self, name: str) -> "FileTree":
    """Returns the tree of an archive that is a file of this tree.

    Members of a compressed archive cannot be read in any order, so it is copied
    to a temporary file without a name, which disappears with the process.

    Args:
      name: Its name here.

    Returns:
      The tree, a copy if this one is an archive.

    Raises:
      UserError: If it is damaged, larger than 4 GiB, or there is no space.
    """
    if not self._archive:
      return FileTree(self.path / name, self._max_pixels)
    num_bytes = self._check_size(name)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < num_bytes:
      raise UserError(
        f"{name} in {self.path} needs {num_bytes / 1e6:.0f} MB in "
        f"{tempfile.gettempdir()}, where {free / 1e6:.0f} MB are free; set "
        "TMPDIR to a folder with space, or unpack it"
      )
    file = tempfile.TemporaryFile()  # noqa: SIM115
    try:
      with self.open(name) as packed:
        shutil.copyfileobj(packed, file)
    except _DAMAGED as error:
      raise UserError(f"{name} is damaged in {self.path}: {error}") from error
    tree = copy.copy(self)
    tree.path, tree.is_copy, tree._prefix = self.path / name, True, ""
    tree._open_archive(file)
    return tree

  def __contains__(self, name: str) -> bool:
    if self._archive:
      return self._prefix + name in self._members
    # Unlike pathlib's, also False for an invalid file name.
    return not is_outside(name) and os.path.isfile(self.path / name)

  def list_names(self) -> Sequence[str]:
    """Returns the relative names of all files, sorted.

    Files that systems add, such as `__MACOSX` and `._a.png`, are left out.
    """
    if self._archive:
      start = len(self._prefix)
      return sorted(name[start:] for name in self._members)
    files = (x for x in self.path.rglob("*") if x.is_file())
    names = (x.relative_to(self.path).as_posix() for x in files)
    return sorted(x for x in names if not is_left_behind(x))

  def open(self, name: str):
    """Opens a file of the tree for reading bytes."""
    if self._archive:
      return self._archive.open(self._prefix + name)
    return open(self.path / name, "rb")

  def read(self, name: str) -> bytes:
    """Returns the content of a file of the tree.

    Raises:
      UserError: If the archive is damaged there, or the file is larger than 4
        GiB: a member may be a thousand times larger than its archive.
    """
    self._check_size(name)
    try:
      with self.open(name) as file:
        return file.read()
    except _DAMAGED as error:
      if not self._archive:
        raise
      raise UserError(f"damaged in {self.path}: {error}") from error

  def _check_size(self, name: str) -> int:
    """Returns the bytes of a file that is small enough to be read."""
    if self._archive:
      num_bytes = self._archive.getinfo(self._prefix + name).file_size
    else:
      num_bytes = os.path.getsize(self.path / name)
    if num_bytes > _MAX_BYTES:
      raise UserError(
        f"{name} in {self.path} has {num_bytes / 2**30:.1f} GiB; the largest "
        f"file that is read has {_MAX_BYTES / 2**30:g} GiB"
      )
    return num_bytes

  def read_header(self, name: str) -> image_files.Header:
    """Returns what an image's header declares, without decoding it.

    Args:
      name: Name of a file in the tree.

    Returns:
      Its header.

    Raises:
      UserError: If the file is not an image, or has too many pixels.
    """
    try:
      with self.open(name) as file:
        return image_files.read_header(file, self._max_pixels)
    except _DAMAGED as error:
      raise UserError(f"file {name} is not an image, or damaged") from error
    except UserError as error:
      raise UserError(f"file {name} is {error}") from error

  def __repr__(self) -> str:
    return str(self.path)


def is_outside(name: str) -> bool:
  """Returns whether a relative name points outside of its folder."""
  path = name.replace("\\", "/")
  return ".." in path.split("/") or bool(re.match("/|[A-Za-z]:/", path))


def is_left_behind(name: str) -> bool:
  """Returns whether the operating system added the file, not the user."""
  return any(
    part in _LEFT_BEHIND or part.startswith("._") for part in name.split("/")
  )


def what_file_is(file: pathlib.Path | BinaryIO) -> str | None:
  """Returns the kind of an unreadable file, None if it is unknown."""
  if isinstance(file, pathlib.Path):
    with open(file, "rb") as opened:
      return what_file_is(opened)
  file.seek(0)
  found = file_kinds.what_it_is(file.read(256))
  return None if found == file_kinds.UNKNOWN else found


def split_suffix(name: str) -> tuple[str, str]:
  """Returns a file's name without its suffix, and the suffix.

  Args:
    name: With its folders, divided by '/'.

  Returns:
    The stem, and the suffix in lower case with its dot; '' for none.
  """
  stem, suffix = posixpath.splitext(name)
  return stem, suffix.lower()


def is_text(value: Any) -> bool:
  """Returns whether a value is a string that UTF-8 can encode."""
  if not isinstance(value, str):
    return False
  try:
    value.encode()
  except UnicodeEncodeError:  # half of a surrogate pair
    return False
  return True
