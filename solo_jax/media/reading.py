"""Reads image files of users, for the commands."""

import io
import pathlib

import cv2
import numpy as np

from solo_jax.data.file_tree import MAX_PIXELS, is_complete, read_header
from solo_jax.data.transforms import to_rgb
from solo_jax.errors import UserError


def read_image(path: pathlib.Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
  """Reads an image file as its pixels are stored.

  Args:
    path: A file that OpenCV reads: JPEG, PNG, TIFF (its first page), ...
    max_pixels: Bound of the pixels that its header may declare.

  Returns:
    RGB, grey repeated, alpha dropped. [H0, W0, 3] uint8 or uint16.

  Raises:
    OSError: If the file cannot be opened.
    UserError: If it is empty, damaged, no image, too large or not of 8 or 16
      bits.
  """
  try:
    image = to_rgb(_decode(path.read_bytes(), max_pixels))
  except ValueError as error:  # pixels of another depth
    raise UserError(str(error)) from error
  return np.ascontiguousarray(image[..., ::-1])  # OpenCV reads BGR


def _decode(data: bytes, max_pixels: int) -> np.ndarray:
  """Returns the pixels in OpenCV's order, [H0, W0] or [H0, W0, C]."""
  if not data:
    raise UserError("the file is empty")
  read_header(io.BytesIO(data), max_pixels)
  if not is_complete(data):
    raise UserError("not an image, or damaged")
  # In colour mode, OpenCV 5.0 misreads 16-bit RGB TIFF files.
  try:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
  except cv2.error as error:  # more pixels than OpenCV reads, for example
    raise UserError(f"not readable: {error.err}") from error
  if image is None:
    raise UserError("not an image, or damaged")
  return image
