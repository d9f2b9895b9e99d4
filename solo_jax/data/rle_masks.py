"""Instance masks that stay encoded until they are needed."""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask


class RleMasks:
  """Masks of one image that are decoded on access.

  Represents an array [N, H0, W0]. A crop of a large image shows few of its
  hundreds of objects, and decoding all of them would cost more than the rest of
  reading.
  """

  def __init__(self, rles: Sequence[bytes], size: tuple[int, int]):
    """Stores encoded masks.

    Args:
      rles: COCO's compressed RLE of each mask.
      size: (H0, W0).
    """
    self.shape = len(rles), *size
    self._encoded = [{"size": list(size), "counts": rle} for rle in rles]

  def __len__(self) -> int:
    return len(self._encoded)

  def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
    """Returns one decoded mask, [H0, W0], or several, [n, H0, W0]; bool.

    Planes are column-major.
    """
    encoded = np.array(self._encoded, object)[index]
    if isinstance(encoded, dict):
      return coco_mask.decode(encoded).view(bool)
    if not len(encoded):
      return np.zeros((0, *self.shape[1:]), bool)
    return coco_mask.decode(list(encoded)).view(bool).transpose(2, 0, 1)

  def __array__(self, dtype=None, copy=None) -> np.ndarray:
    """Returns all masks, decoded."""
    del copy
    return self[:].astype(dtype or bool, copy=False)

  def boxes_xyxy(self) -> np.ndarray:
    """Returns the tight boxes, of size 0 for empty masks. [N, 4] float64."""
    if not self._encoded:
      return np.zeros((0, 4))
    boxes = coco_mask.toBbox(self._encoded)
    boxes[:, 2:] += boxes[:, :2]
    return boxes

  def areas(self) -> np.ndarray:
    """Returns the area of each mask without decoding it. [N] int64."""
    # One by one: for a list of 256 or more, pycocotools raises OverflowError.
    return np.array([coco_mask.area(x) for x in self._encoded], np.int64)
