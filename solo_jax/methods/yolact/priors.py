"""Prior boxes of YOLACT (https://arxiv.org/abs/1904.02689).

Shape letters: A priors of all levels.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Priors:
  """Sizes and ratios of the prior boxes at each position.

  Attributes:
    sizes: Square roots of the areas, network pixels, for each level.
    ratios: Height / width; for each size all ratios.
    is_square: Whether a prior is as high as it is wide. The published weights
      of YOLACT were trained this way by mistake, unlike YOLACT++ and
      mmdetection.
  """

  sizes: tuple[tuple[float, ...], ...]
  ratios: tuple[float, ...]
  is_square: bool

  @property
  def per_position(self) -> int:
    """Returns the number of priors per position."""
    return len(self.sizes[0]) * len(self.ratios)


def make_priors(
  priors: Priors,
  map_sizes: Sequence[tuple[int, int]],
  padded_size: tuple[int, int],
) -> np.ndarray:
  """Returns the priors by level, position (row, column), size and ratio.

  Args:
    priors: Sizes and ratios.
    map_sizes: (h, w) of each level.
    padded_size: (H, W) of the network input.

  Returns:
    x1, y1, x2, y2 in continuous network pixels, centred in the cells.
    [A, 4] float32.
  """
  roots = np.sqrt(np.asarray(priors.ratios))
  boxes = []
  for sizes, (height, width) in zip(priors.sizes, map_sizes, strict=True):
    sides = np.asarray(sizes)[:, None]
    half_w = (sides / roots).reshape(-1) / 2
    half_h = half_w if priors.is_square else (sides * roots).reshape(-1) / 2
    shapes = np.stack([-half_w, -half_h, half_w, half_h], axis=-1)
    y, x = np.mgrid[:height, :width] + 0.5
    x, y = x * padded_size[1] / width, y * padded_size[0] / height
    centers = np.stack([x, y, x, y], axis=-1)[:, :, None]
    boxes.append((centers + shapes).reshape(-1, 4))
  return np.concatenate(boxes).astype(np.float32)
