"""Reads users' image files for the commands."""

import dataclasses
import io
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from solo_jax.data import image_files, tiff_pages
from solo_jax.data.file_tree import MAX_PIXELS
from solo_jax.data.transforms import to_rgb
from solo_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageReader:
  """How image files are read.

  Attributes:
    max_pixels: Largest number of pixels that a header may declare.
    exif: 'apply' rotates an image according to its orientation tag, 'ignore'
      leaves the pixels as they are stored.
  """

  max_pixels: int = MAX_PIXELS
  exif: str = "ignore"

  def read(self, path: pathlib.Path) -> np.ndarray:
    """Returns the pixels of an image file.

    Args:
      path: A file of a kind that `image_files` reads.

    Returns:
      RGB, grey repeated, alpha dropped. [H0, W0, 3] uint8 or uint16.

    Raises:
      OSError: If the file cannot be opened.
      UserError: If it is empty, damaged, not an image, too large, of several
        pages or not of 8 or 16 bits.
    """
    pages = self.open(path)
    if len(pages) > 1:
      raise UserError(
        f"a stack of {len(pages)} pages; predict reads them one by one"
      )
    return next(iter(pages))

  def open(self, path: pathlib.Path) -> "Pages":
    """Returns the pages of an image file; each is decoded when it is asked for.

    Args:
      path: A file of a kind that `image_files` reads.

    Returns:
      Pages like `read` returns the only one; of a TIFF file that may be many.

    Raises:
      OSError: If the file cannot be opened.
      UserError: See `read`, here and when a page is decoded.
    """
    if "\0" in str(path):
      raise UserError("no file has a name with a zero in it")
    data = path.read_bytes()
    if not data:
      raise UserError("the file is empty")
    header = image_files.read_header(io.BytesIO(data), self.max_pixels)
    if header.num_pages > 1 and not tiff_pages.is_tiff(data):
      raise UserError(
        f"an animation of {header.num_pages} pictures: save them as single "
        "files, or as a video"
      )
    orientation = header.orientation if self.exif == "apply" else 1
    return Pages(data, header.num_pages, orientation)


class Pages(Sequence):
  """The pages of one file, decoded when they are asked for."""

  def __init__(self, data: bytes, num_pages: int, orientation: int):
    """Takes a file whose header was read, see `ImageReader.open`."""
    self._data, self._num_pages = data, num_pages
    self._orientation = orientation

  def __len__(self) -> int:
    return self._num_pages

  def __getitem__(self, page: int) -> np.ndarray:
    if not 0 <= page < self._num_pages:
      raise IndexError(page)
    try:
      # As stored: in colour mode, OpenCV 5.0 misreads 16-bit RGB TIFF files.
      image = to_rgb(image_files.decode(self._data, page))
    except ValueError as error:  # pixels of another depth
      raise UserError(str(error)) from error
    image = image[..., ::-1]  # OpenCV reads BGR
    return image_files.turn(image, self._orientation)

  def __iter__(self) -> Iterator[np.ndarray]:
    return (self[page] for page in range(len(self)))
