"""Label images: 0 is background, every other value one object."""

import io

import numpy as np
import PIL.Image

from solo_jax.data import tiff_pages
from solo_jax.data.image_files import FORMATS, decode, turn_back
from solo_jax.errors import UserError

_ORIENTATION = 274  # tag


def read_label_image(encoded: bytes, page: int = 0) -> tuple[np.ndarray, str]:
  """Returns a decoded label image; for a palette image, the indices.

  Args:
    encoded: A one-channel PNG, TIFF or BMP file of whole numbers, which may be
      stored as floats.
    page: Page of a TIFF file.

  Returns:
    The labels, [H, W] int64, 0 for background; and the type in the file.

  Raises:
    UserError: If it cannot be decoded or has other values.
  """
  values = _read_indices(encoded, page)
  if values is None:
    values = decode(encoded, page)
  if values.ndim != 2:
    raise UserError(f"has {values.shape[2]} channels; need one")
  if values.dtype.kind == "f" and not (np.rint(values) == values).all():
    wrong = values[np.rint(values) != values][0]
    raise UserError(f"has the value {wrong:g}; need whole numbers")
  limit = np.iinfo(np.int64).max
  if values.dtype.kind in "fu" and values.max(initial=0) >= limit:
    raise UserError(f"has the value {values.max():g}, which is not a label")
  return values.astype(np.int64), values.dtype.name


def _read_indices(encoded: bytes, page: int) -> np.ndarray | None:
  """Returns the values that Pillow reads; None for TIFFs of integers or floats.

  OpenCV would return the colours of a palette instead of its indices.
  """
  is_tiff = tiff_pages.is_tiff(encoded)
  try:
    with PIL.Image.open(
      io.BytesIO(encoded), formats=("TIFF",) if is_tiff else FORMATS
    ) as image:
      if not is_tiff:
        return np.asarray(image)
      if image.mode not in ("1", "P"):
        return None
      image.seek(page)
      orientation = image.tag_v2.get(_ORIENTATION, 1)  # Pillow applies it
      return turn_back(np.asarray(image), orientation)
  except Exception as error:  # Pillow's decoders raise nearly anything
    if is_tiff:
      return None
    raise UserError(f"cannot decode the label image: {error}") from error
