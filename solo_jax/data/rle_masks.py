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
    self._boxes = None

  def __len__(self) -> int:
    return len(self._encoded)

  def __getitem__(self, index: int | slice | np.ndarray) -> np.ndarray:
    """Returns one decoded mask, [H0, W0], or several, [n, H0, W0]; bool.

    Planes are column-major.
    """
    if isinstance(index, int | np.integer):
      return coco_mask.decode(self._encoded[index]).view(bool)
    encoded = np.array(self._encoded, object)[index]
    if not len(encoded):
      return np.zeros((0, *self.shape[1:]), bool)
    return coco_mask.decode(list(encoded)).view(bool).transpose(2, 0, 1)

  def window(self, index: int, rows: slice, columns: slice) -> np.ndarray:
    """Returns a part of one mask; only its columns are decoded.

    Takes a third of the time of decoding the whole mask of a photograph.

    Args:
      index: Which mask.
      rows: From start to stop, inside the image.
      columns: The same.

    Returns:
      [rows, columns] bool, column-major.
    """
    height, first = self.shape[1], columns.start
    size = height * (columns.stop - first)
    ends = _run_ends(self._encoded[index]["counts"]) - height * first
    ends = np.append(np.clip(ends, 0, size), size)
    is_inside = np.zeros(len(ends), bool)
    is_inside[1:-1:2] = True  # runs of zeros and ones alternate
    flat = np.repeat(is_inside, np.diff(ends, prepend=0))
    return flat.reshape(-1, height).T[rows]

  def __array__(self, dtype=None, copy=None) -> np.ndarray:
    """Returns all masks, decoded."""
    del copy
    return self[:].astype(dtype or bool, copy=False)

  def boxes_xyxy(self) -> np.ndarray:
    """Returns the tight boxes, of size 0 for empty masks. [N, 4] float64."""
    if self._boxes is None:
      self._boxes = np.zeros((0, 4))
      if self._encoded:
        self._boxes = coco_mask.toBbox(self._encoded)
        self._boxes[:, 2:] += self._boxes[:, :2]
    return self._boxes

  def areas(self) -> np.ndarray:
    """Returns the area of each mask without decoding it. [N] int64."""
    # One by one: for a list of 256 or more, pycocotools raises OverflowError.
    return np.array([coco_mask.area(x) for x in self._encoded], np.int64)


def _run_ends(counts: bytes) -> np.ndarray:
  """Returns where the runs of a mask end, zeros first. [runs] int64.

  COCO's compressed counts: characters from '0' on hold five bits each, lowest
  first; bit 5 announces another, bit 4 of the last is the sign. From the fourth
  count on, each is the difference from the count two before.
  """
  codes = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
  last = np.flatnonzero(codes < 32)
  lengths = np.diff(last, prepend=-1)
  first = last - lengths + 1
  shifts = 5 * (np.arange(len(codes)) - np.repeat(first, lengths))
  runs = np.add.reduceat((codes & 31) << shifts, first)
  runs -= (codes[last] >> 4 & 1) << (5 * lengths)
  runs[1::2] = np.cumsum(runs[1::2])
  runs[2::2] = np.cumsum(runs[2::2])
  return np.cumsum(runs)
