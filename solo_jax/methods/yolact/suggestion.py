"""What YOLACT suggests for a dataset: the sizes of prior boxes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from solo_jax.methods.interface import Change, Examined

# A square prior and a square object of one centre overlap by half or more if
# their sides differ by this factor at most.
REACH = math.sqrt(2)
ENOUGH = 0.95  # share of the objects within reach that needs no change
LARGEST = 5  # prior of a level, in strides
SMALLEST = 8.0  # network pixels: a cell of P3
STRIDES = (8, 16, 32, 64, 128)  # P3 to P7


def suggest(config: Mapping[str, Any], examined: Examined) -> Sequence[Change]:
  """Returns prior sizes that match the objects, if the given ones do not.

  Each level gets sizes up to five times its stride, as at 550 pixels: then the
  next prior is near enough to overlap an object of its size by half.

  Args:
    config: Sections as plain dicts.
    examined: The dataset.

  Returns:
    At most one change.
  """
  given = config["network"]["prior_sizes"]
  objects = np.asarray(examined.object_sizes, float)
  if not len(objects):
    return []
  sizes = np.array([size for level in given for size in level], float)
  factor = np.exp(np.abs(np.log(objects[:, None] / sizes)).min(axis=1))
  share = float(np.mean(factor <= REACH))
  if share >= ENOUGH:
    return []
  low, high = map(float, np.quantile(objects, (0.05, 0.95)))
  start = min(max(low, SMALLEST), LARGEST * STRIDES[0] / 2)
  edges = start, *(LARGEST * stride for stride in STRIDES)
  number = len(given[0])
  chosen = tuple(
    tuple(
      float(round(first * (last / first) ** ((i + 0.5) / number)))
      for i in range(number)
    )
    for first, last in zip(edges[:-1], edges[1:], strict=True)
  )
  reason = (
    f"{share:.0%} of the objects are within a factor of {REACH:.1f} of a "
    f"prior; 9 of 10 have sides of {low:.0f} to {high:.0f} px"
  )
  return [Change("network.prior_sizes", chosen, reason)]
