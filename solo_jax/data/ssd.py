"""The augmentation of SSD (https://arxiv.org/abs/1512.02325, section 2.2).

YOLACT is trained with it. The image is always stretched to the network input.
"""

import dataclasses

import cv2
import numpy as np

from solo_jax.data import transforms
from solo_jax.types import Sample

# Overlap that a window must have with some object; None: the whole image.
OVERLAPS = (None, 0.1, 0.3, 0.7, 0.9, 0.0)
SIDES = 0.3, 1.0  # of a window, as shares of the image's
MAX_RATIO = 2.0  # between the sides of a window
TRIALS = 50
BRIGHTNESS = 32.0
CONTRAST = SATURATION = 0.5, 1.5
HUE = 18.0  # degrees


@dataclasses.dataclass(frozen=True, kw_only=True)
class Window:
  """Shows a random window of the image, sometimes on a larger canvas.

  With probability 1/2 the image is first placed on a canvas of the mean colour.
  Then a window is drawn that overlaps some object enough (one of `OVERLAPS`,
  all equally likely) and stretched to `image_size`. Objects that the
  window cuts keep their visible part; SSD drops those whose centre is outside.

  Attributes:
    image_size: Filled in by `augmentations.build`.
    largest: Largest side of the canvas as a multiple of the image's.
  """

  image_size: tuple[int, int]
  largest: float

  def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
    """Returns the sample in a random window of `image_size`."""
    size = np.array(sample.image_size, float)
    start = np.zeros(2)
    if rng.random() < 0.5:
      scale = rng.uniform(1, self.largest)
      start = -rng.uniform(0, 1, 2) * (scale - 1) * size
      size = scale * size
    boxes = transforms.boxes_in_frame(sample)[~sample.is_crowd]
    start, size = _draw_window(start, size, boxes, rng)
    # Whole pixels of the whole image, so that it is rendered once.
    full = np.array(sample.image_size) * self.image_size / size
    full = np.maximum(np.rint(full), 1).astype(int)
    sample = transforms.resized(sample, tuple(full.tolist()))
    top, left = np.rint(start * self.image_size / size).astype(int).tolist()
    return transforms.cropped(sample, top=top, left=left, size=self.image_size)


def _draw_window(start, size, boxes, rng):
  """Returns start and size (y, x) of a window of a canvas."""
  wanted = OVERLAPS[rng.integers(len(OVERLAPS))]
  if wanted is None or not len(boxes):
    return start, size
  for _ in range(TRIALS):
    sides = rng.uniform(*SIDES, 2) * size
    corner = start + rng.uniform(0, 1, 2) * (size - sides)
    is_narrow = max(sides) > MAX_RATIO * min(sides)
    if not is_narrow and _overlaps(boxes, corner, sides).max() >= wanted:
      return corner, sides
  return start, size


def _overlaps(boxes, corner, sides):
  """Returns the IoU of boxes (x1, y1, x2, y2) with a window. [n]."""
  low, high = corner[::-1], (corner + sides)[::-1]
  shared = np.minimum(boxes[:, 2:], high) - np.maximum(boxes[:, :2], low)
  shared = np.prod(np.maximum(shared, 0), axis=1)
  areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
  return shared / (areas + np.prod(sides) - shared)


@dataclasses.dataclass(frozen=True)
class Distort:
  """Changes brightness, contrast, saturation and hue, each at random.

  Contrast comes first or last, with equal probability.
  """

  def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
    """Returns the sample as uint8 with distorted colours."""
    image = transforms.to_uint8(sample.image).astype(np.float32)
    does = rng.random(5) < 0.5
    image += does[0] * rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    contrast = rng.uniform(*CONTRAST) if does[1] else 1.0
    saturation = rng.uniform(*SATURATION) if does[2] else 1.0
    hue = rng.uniform(-HUE, HUE) if does[3] else 0.0
    if does[4]:
      image *= contrast
    if does[2] or does[3]:
      hsv = cv2.cvtColor(np.clip(image, 0, 255), cv2.COLOR_RGB2HSV)
      hsv[..., 0] = (hsv[..., 0] + hue) % 360
      hsv[..., 1] = np.clip(hsv[..., 1] * saturation, 0, 1)
      image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if not does[4]:
      image *= contrast
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return dataclasses.replace(sample, image=image)
