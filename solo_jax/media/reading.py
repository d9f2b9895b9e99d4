"""Reads users' image files for the commands."""

import io
import pathlib

import numpy as np

from solo_jax.data import image_files
from solo_jax.data.file_tree import MAX_PIXELS
from solo_jax.data.transforms import to_rgb
from solo_jax.errors import UserError


def read_image(path: pathlib.Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
  """Returns the pixels of an image file as they are stored.

  Args:
    path: A file of a kind that `image_files` reads; the first page of a TIFF.
    max_pixels: Largest number of pixels that its header may declare.

  Returns:
    RGB, grey repeated, alpha dropped. [H0, W0, 3] uint8 or uint16.

  Raises:
    OSError: If the file cannot be opened.
    UserError: If it is empty, damaged, not an image, too large or not of 8 or
      16 bits.
  """
  data = path.read_bytes()
  if not data:
    raise UserError("the file is empty")
  image_files.read_header(io.BytesIO(data), max_pixels)
  try:
    # As stored: in colour mode, OpenCV 5.0 misreads 16-bit RGB TIFF files.
    image = to_rgb(image_files.decode(data))
  except ValueError as error:  # pixels of another depth
    raise UserError(str(error)) from error
  return np.ascontiguousarray(image[..., ::-1])  # OpenCV reads BGR
