"""Objects of label images as runs of equal pixels, and their pieces."""

import collections

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from pycocotools import mask as coco_mask


def encode_labels(labels: np.ndarray) -> dict[int, dict]:
  """Returns every object of a label image as RLE, encoded in one pass.

  Args:
    labels: [H, W] integers; 0 is background.

  Returns:
    {value: COCO's compressed RLE} by increasing value, without 0.
  """
  size = list(labels.shape)
  flat = labels.T.ravel()  # runs go down the columns
  starts = np.flatnonzero(np.diff(flat, prepend=flat[0] - 1))
  stops = np.append(starts[1:], flat.size)
  values = flat[starts]
  # Sorted once: a photograph passed as labels has about as many values as
  # pixels.
  order = np.argsort(values, kind="stable")
  found, firsts = np.unique(values[order], return_index=True)
  encoded = {}
  for value, runs in zip(found, np.split(order, firsts[1:]), strict=True):
    if value == 0:
      continue
    # off, on, off, ..., on, off: differences between where runs begin and end
    edges = np.stack([starts[runs], stops[runs]], 1).ravel()
    counts = np.diff(edges, prepend=0, append=flat.size).tolist()
    if counts[-1] == 0:
      counts.pop()  # the object contains the last pixel; COCO's form ends there
    encoded[int(value)] = coco_mask.frPyObjects(
      {"size": size, "counts": counts}, *size
    )
  return encoded


def number_pieces(labels: np.ndarray) -> tuple[np.ndarray, dict[int, int]]:
  """Returns numbered pieces: equal pixels that touch, also diagonally.

  Args:
    labels: [H, W] integers; 0 is background.

  Returns:
    The piece of each pixel, counted from 1, 0 for background, [H, W] int64; and
    the number of pieces of each value.
  """
  height = labels.shape[0]
  flat = labels.T.ravel()  # runs go down the columns and end with them
  is_start = np.diff(flat, prepend=0) != 0
  is_start[::height] = True
  starts = np.flatnonzero(is_start)
  stops = np.append(starts[1:], flat.size)
  is_object = flat[starts] != 0
  starts, stops = starts[is_object], stops[is_object]
  values = flat[starts]
  first, second = _touching(starts, stops, height)
  is_same = values[first] == values[second]
  pairs = (first[is_same], second[is_same])
  graph = scipy.sparse.coo_matrix(
    (np.ones(len(pairs[0]), bool), pairs), (len(starts), len(starts))
  )
  _, piece = scipy.sparse.csgraph.connected_components(graph, directed=False)
  numbers = np.zeros(flat.size, np.int64)
  numbers[flat != 0] = np.repeat(piece + 1, stops - starts)
  # One run per piece gives its value.
  _, one = np.unique(piece, return_index=True)
  counts = collections.Counter(values[one].tolist())
  return numbers.reshape(labels.T.shape).T, dict(counts)


def _touching(
  starts: np.ndarray, stops: np.ndarray, height: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns pairs of runs, each with those of the next column that touch it."""
  column = starts // height
  low = np.maximum(starts + height - 1, (column + 1) * height)
  high = np.minimum(stops + height + 1, (column + 2) * height)
  begin = np.searchsorted(stops, low, side="right")
  number = np.maximum(np.searchsorted(starts, high) - begin, 0)
  first = np.repeat(np.arange(len(starts)), number)
  position = np.arange(len(first)) - np.repeat(
    np.cumsum(number) - number, number
  )
  return first, np.repeat(begin, number) + position
