"""Run-length encoding of masks, in COCO's compressed column-major form."""

import numpy as np
from pycocotools import mask as coco_mask

from solo_jax import types


def encode(
  masks: np.ndarray | types.CroppedMasks, boxes_xyxy: np.ndarray | None = None
) -> list[dict]:
  """Returns masks encoded as COCO RLE.

  Fast for the transposed view of column-major planes in `types.Instances`,
  which needs no copy; any other memory order is copied first.

  Args:
    masks: [M, H0, W0] bool, or cropped ones.
    boxes_xyxy: Boxes (whole pixels) outside of which the masks are known to
      be empty; with them only the columns of each box are read. [M, 4].

  Returns:
    M dicts {'size': [H0, W0], 'counts': str}, ready for JSON.

  Examples:
    >>> masks = np.array([[[False, True], [False, True]]])
    >>> encode(masks)
    [{'size': [2, 2], 'counts': '22'}]
  """
  if not len(masks):
    return []
  height, width = masks.shape[1:]
  if isinstance(masks, types.CroppedMasks):
    return [
      _encode_crop(crop, corner, (height, width))
      for crop, corner in zip(masks.crops, masks.corners, strict=True)
    ]
  if boxes_xyxy is None:
    columns = np.tile([0, width], (len(masks), 1))
  else:
    columns = boxes_xyxy[:, [0, 2]].astype(np.int64)
  planes = masks.transpose(0, 2, 1)  # [M, W0, H0]
  return [
    _encode_columns(plane[start:stop], start, (height, width))
    for plane, (start, stop) in zip(planes, columns, strict=True)
  ]


def decode(rles: list[dict], size: tuple[int, int]) -> np.ndarray:
  """Returns decoded COCO RLE, compressed or not.

  Args:
    rles: M dicts {'size': [H0, W0], 'counts': str, bytes or list of int}.
    size: (H0, W0), the size of the result when there are no masks.

  Returns:
    Masks, a transposed view of column-major planes. [M, H0, W0] bool.

  Raises:
    ValueError: If an entry has another size, or its runs cover another number
      of pixels; pycocotools would return uninitialised memory.

  Examples:
    >>> rle = {"size": [2, 2], "counts": [2, 2]}  # off, on; down the columns
    >>> decode([rle], (2, 2)).astype(int).tolist()
    [[[0, 1], [0, 1]]]
  """
  planes = np.zeros((len(rles), size[1], size[0]), bool)
  for i, rle in enumerate(rles):
    if tuple(rle["size"]) != tuple(size):
      raise ValueError(
        f"mask {i} has size {tuple(rle['size'])}, its image has {tuple(size)}"
      )
    counts = rle["counts"]
    is_list = isinstance(counts, list)
    runs = np.array(counts, np.int64) if is_list else _runs(counts)
    if (runs < 0).any() or runs.sum() != size[0] * size[1]:
      raise ValueError(
        f"mask {i} has runs over {runs.sum()} pixels, its image has "
        f"{size[0] * size[1]}; the RLE is damaged"
      )
    is_inside = np.arange(len(runs)) % 2 == 1
    planes[i] = np.repeat(is_inside, runs).reshape(size[1], size[0])
  return planes.transpose(0, 2, 1)


def areas(rles: list[dict]) -> np.ndarray:
  """Returns the areas of encoded masks in pixels.

  Args:
    rles: M dicts as `encode` makes them.

  Returns:
    [M] int64.
  """
  return np.array([coco_mask.area(rle) for rle in rles], np.int64)


def boxes(rles: list[dict]) -> np.ndarray:
  """Returns the tight boxes of encoded masks.

  Args:
    rles: M dicts as `encode` makes them.

  Returns:
    Continuous pixels, size 0 for empty masks. [M, 4] float32.
  """
  found = np.zeros((len(rles), 4), np.float32)
  if rles:
    found[:] = coco_mask.toBbox(rles)
  found[:, 2:] += found[:, :2]
  return found


def _runs(counts: str | bytes) -> np.ndarray:
  """Returns COCO's run lengths, decompressed. [runs] int64.

  Each character from '0' has six bits: five of a number, low first, and one
  that is set if the number continues; the fifth bit of the last one is the
  sign. From the fourth number on, each is the difference from the number two
  before.
  """
  text = counts.encode() if isinstance(counts, str) else counts
  digits = np.frombuffer(text, np.uint8).astype(np.int64) - 48
  ends = np.flatnonzero(digits < 32)
  starts = np.append(0, ends[:-1] + 1)
  lengths = ends - starts + 1
  if (digits < 0).any() or (digits > 63).any() or lengths.sum() != len(digits):
    raise ValueError(f"{counts!r:.80} is not a compressed RLE")
  if len(ends) and lengths.max() > 7:
    raise ValueError(f"{counts!r:.80} has a number of more than 7 characters")
  if not len(ends):
    return ends
  place = np.arange(len(digits)) - np.repeat(starts, lengths)
  values = np.add.reduceat((digits & 31) << (5 * place), starts)
  values -= np.where(digits[ends] & 16, 1 << (5 * lengths), 0)
  for first in (1, 2):
    values[first::2] = np.cumsum(values[first::2])
  return values


def _encode_crop(
  crop: np.ndarray, corner: tuple[int, int], size: tuple[int, int]
) -> dict:
  """Returns an encoded mask [h, w] that is at (top, left) of its image."""
  top, left = corner
  columns = np.zeros((crop.shape[1], size[0]), bool)
  columns[:, top : top + crop.shape[0]] = crop.T
  return _encode_columns(columns, left, size)


def _encode_columns(
  columns: np.ndarray, start: int, size: tuple[int, int]
) -> dict:
  """Returns an encoded mask, empty except for columns [w, H0] from `start`."""
  height, width = size
  pixels = columns.reshape(-1)
  changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
  if pixels.size and pixels[0]:
    changes = np.concatenate([[0], changes])
  changes = changes + start * height
  if len(changes) % 2 and start * height + pixels.size < height * width:
    # The mask touches the last pixel of its columns and ends there.
    changes = np.append(changes, start * height + pixels.size)
  # Runs alternate from "outside" and so do the changes between them.
  counts = np.diff(changes, prepend=0, append=height * width)
  rle = coco_mask.frPyObjects(
    {"size": [height, width], "counts": counts.tolist()}, height, width
  )
  return {"size": [height, width], "counts": rle["counts"].decode()}
