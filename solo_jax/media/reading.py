"""Reads image files of users, for the commands."""

import io
import pathlib

import cv2
import numpy as np

from solo_jax.data.file_tree import MAX_PIXELS, is_complete, read_header
from solo_jax.data.transforms import to_rgb


def read_image(path: pathlib.Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
  """Reads an image file as its pixels are stored.

  Args:
    path: A file that OpenCV reads: JPEG, PNG, TIFF (its first page), ...
    max_pixels: Bound of the pixels that its header may declare.

  Returns:
    RGB, grey repeated, alpha dropped. [H0, W0, 3] uint8 or uint16.

  Raises:
    OSError: If the file cannot be opened.
    ValueError: If it is empty, damaged, no image, too large or not of 8 or 16
      bits.
  """
  data = path.read_bytes()
  if not data:
    raise ValueError("the file is empty")
  read_header(io.BytesIO(data), max_pixels)
  if not is_complete(data):
    raise ValueError("not an image, or damaged")
  # In colour mode, OpenCV 5.0 misreads 16-bit RGB TIFF files.
  try:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
  except cv2.error as error:  # more pixels than OpenCV reads, for example
    raise ValueError(f"not readable: {error.err}") from error
  if image is None:
    raise ValueError("not an image, or damaged")
  return np.ascontiguousarray(to_rgb(image)[..., ::-1])  # OpenCV reads BGR
