"""From overlapping masks to an image in which a pixel has one owner."""

from collections.abc import Iterable

import numpy as np

# If better masks hide more than this share of a mask, the rest is a sliver of a
# duplicate and not a separate object.
MAX_HIDDEN = 0.5


def flatten(
  crops: Iterable[tuple[slice, slice, np.ndarray]], size: tuple[int, int]
) -> np.ndarray:
  """Returns a label image in which each pixel belongs to the best mask there.

  A mask that is hidden by more than MAX_HIDDEN is left out. This depends only
  on the masks before it, so removing the last masks does not change the others.

  Args:
    crops: Rows, columns and the bool mask in that box, the best mask first.
    size: (H0, W0).

  Returns:
    1 + index of the mask that has the pixel, 0 for none. [H0, W0] int32.

  Examples:
    >>> best = (slice(0, 2), slice(0, 2), np.ones((2, 2), bool))
    >>> next_ = (slice(1, 3), slice(1, 4), np.ones((2, 3), bool))
    >>> flatten([best, next_], (3, 4)).tolist()
    [[1, 1, 0, 0], [1, 1, 2, 2], [0, 2, 2, 2]]
  """
  owner = np.zeros(size, np.int32)
  for i, (rows, columns, mask) in enumerate(crops):
    window = owner[rows, columns]
    free = mask & (window == 0)
    if np.sum(free) >= (1 - MAX_HIDDEN) * np.sum(mask):
      window[free] = i + 1
  return owner
