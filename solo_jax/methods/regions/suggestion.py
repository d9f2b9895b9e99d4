"""What region-based networks suggest for a dataset: the sizes of anchors."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from solo_jax.methods.interface import Change, Examined

# A square anchor and a square object of one centre overlap by half or more if
# their sides differ by this factor at most.
REACH = math.sqrt(2)
ENOUGH = 0.95  # share of the objects within reach that needs no change
FACTORS = 1.25, 2.0  # of neighbouring sizes
SMALLEST = 4.0  # network pixels: a cell of P2


def suggest(config: Mapping[str, Any], examined: Examined) -> Sequence[Change]:
  """Returns anchor sizes that match the objects, if the given ones do not.

  Args:
    config: Sections as plain dicts.
    examined: The dataset.

  Returns:
    At most one change.
  """
  sizes = config["network"]["anchor_sizes"]
  objects = np.asarray(examined.object_sizes)
  if not len(objects):
    return []
  is_reached = (objects >= min(sizes) / REACH) & (objects <= max(sizes) * REACH)
  share = float(np.mean(is_reached))
  if share >= ENOUGH:
    return []
  low, high = np.quantile(objects, (0.05, 0.95))
  low = max(float(low), SMALLEST)
  factor = np.clip((high / low) ** (1 / (len(sizes) - 1)), *FACTORS)
  chosen = tuple(round(low * float(factor) ** i) for i in range(len(sizes)))
  reason = (
    f"{share:.0%} of the objects are within a factor of {REACH:.1f} of an "
    f"anchor; 9 of 10 have sides of {low:.0f} to {high:.0f} px"
  )
  return [Change("network.anchor_sizes", chosen, reason)]
