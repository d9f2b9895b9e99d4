"""Unit of the embedding and smallest group that suit a dataset."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from solo_jax.methods.interface import Change, Examined


def suggest_bandwidth(
  config: Mapping[str, Any], examined: Examined
) -> list[Change]:
  """Returns the unit of a spatial embedding and the smallest group.

  Args:
    config: Sections as plain dicts.
    examined: The dataset.

  Returns:
    Changes; none where the fields suit.
  """
  network, changes = config["network"], []
  small, typical = np.percentile(examined.object_sizes, (1, 50))
  if network["embedding"] == "spatial":
    unit = max(1, round(typical / 2))
    if not 0.5 < network["coordinate_unit"] / unit < 2:
      reason = (
        f"about the radius of a typical object ({typical:.0f} network px)"
      )
      changes.append(Change("network.coordinate_unit", float(unit), reason))
  pixels = max(int((small / network["mask_stride"]) ** 2), 1)
  if config["decode"]["min_pixels"] > pixels:
    reason = f"99 of 100 objects are {small:.1f} network px or larger"
    changes.append(Change("decode.min_pixels", pixels, reason))
  return changes
