"""Colours of microscopes: transforms for images from many laboratories.

Stains and light sources differ more between laboratories than cells do. Both
transforms change colours only.
"""

import dataclasses

import cv2
import numpy as np

from solo_jax.data.transforms import to_uint8
from solo_jax.types import Sample

# Optical density of haematoxylin, eosin and DAB in red, green and blue, one
# stain per row (Ruifrok & Johnston 2001, the paper's table), unit length.
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
STAINS /= np.linalg.norm(STAINS, axis=1, keepdims=True)
DENSITY = -np.log(np.arange(1, 257) / 256).astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StainJitter:
  """Changes the amount of each stain (Tellez et al. 2018, 'HED').

  The optical density of a pixel is the sum of three stains. Each amount is
  scaled and shifted. Grey images, which have no stains, get another contrast
  and a tint.

  Attributes:
    strength: k: amounts are scaled by a factor from [1 - k, 1 + k] and shifted
      by [-k, k], in natural units of density.
  """

  strength: float

  def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
    """Returns the sample as uint8 with changed amounts of stain."""
    k = self.strength
    factors, shifts = rng.uniform(1 - k, 1 + k, 3), rng.uniform(-k, k, 3)
    matrix = np.empty((3, 4))
    matrix[:, :3] = (np.linalg.inv(STAINS) @ np.diag(factors) @ STAINS).T
    matrix[:, 3] = shifts @ STAINS
    density = cv2.transform(DENSITY[to_uint8(sample.image)], matrix)
    image = 256 * np.exp(-density) - 1
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return dataclasses.replace(sample, image=image)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Invert:
  """Swaps dark and bright, as bright-field and fluorescence differ.

  Attributes:
    probability: Share of the images that are inverted.
  """

  probability: float

  def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
    """Returns the sample, or with 255 minus each value of its uint8 image."""
    if rng.random() >= self.probability:
      return sample
    return dataclasses.replace(sample, image=255 - to_uint8(sample.image))
