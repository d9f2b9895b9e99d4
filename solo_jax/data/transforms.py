"""Geometry and colour changes of a Sample; geometry is composed, not rendered.

Every transform maps the frame of its input (the result of earlier transforms)
to a new frame by an axis-aligned affine: a transposition, flips, a resize to
whole pixels and a crop at whole pixels, in any order. `batching.render_image`
renders the result once. Random transforms for training are in `augmentations`.
"""

import dataclasses
import functools
import math

import cv2
import numpy as np

from solo_jax.types import Sample

# Added to a side before its fraction is cut off.
SIZE_SHIFTS = {"nearest": 0.5, "down": 0.0}
# Grey value of an RGB colour, ITU-R BT.601.
_LUMA = np.array([0.299, 0.587, 0.114])
_PERCENTILES = (0.1, 99.9)
# Tolerance: whole positions are float64 products of sizes up to 1e5.
_TOLERANCE = 1e-6


def resize_to_fit(
  sample: Sample,
  *,
  short_side: int,
  max_side: int,
  within: tuple[int, int] | None = None,
  size_rounding: str = "nearest",
) -> Sample:
  """Returns the sample at the largest size within a short and a long side.

  The published rule (mmcv.imrescale): scale s = min(max_side / long side,
  short_side / short side), new sides int(side * s + 0.5).

  Args:
    sample: Any sample.
    short_side: Upper bound of the short side, in pixels.
    max_side: Upper bound of the long side, in pixels.
    within: Optional (height, width) that must not be exceeded either.
    size_rounding: 'nearest', or 'down': int(side * s), as torchvision does.

  Returns:
    The resized sample.
  """
  height, width = sample.image_size
  scale = min(max_side / max(height, width), short_side / min(height, width))
  if within is not None:
    scale = min(scale, within[0] / height, within[1] / width)
  shift = SIZE_SHIFTS[size_rounding]
  return resized(sample, _scaled_size(sample.image_size, scale, shift))


def jitter_scale(
  sample: Sample,
  rng: np.random.Generator,
  *,
  image_size: tuple[int, int],
  factor: tuple[float, float],
  reference: str = "fit",
  size_rounding: str = "nearest",
) -> Sample:
  """Returns the sample after large-scale jitter: fit, random scale, crop.

  Args:
    sample: Any sample.
    rng: Source of the factor and of the position of the crop.
    image_size: (height, width) to fit into and to crop to, in pixels.
    factor: (low, high) of the uniform scale factor.
    reference: 'fit', 'short' or 'original', see
      `augmentations.ScaleJitter`.
    size_rounding: See `resize_to_fit`.

  Returns:
    The sample, its `image_size` at most the given one.
  """
  height, width = sample.image_size
  scale = rng.uniform(*factor)
  if reference == "fit":
    scale *= min(image_size[0] / height, image_size[1] / width)
  elif reference == "short":
    scale *= min(image_size) / min(height, width)
  shift = SIZE_SHIFTS[size_rounding]
  sample = resized(sample, _scaled_size(sample.image_size, scale, shift))
  size = tuple(map(min, sample.image_size, image_size))
  slack = np.subtract(sample.image_size, size)
  top, left = rng.integers(0, slack, endpoint=True)
  return cropped(sample, top=int(top), left=int(left), size=size)


def resized(sample: Sample, size: tuple[int, int]) -> Sample:
  """Returns the sample resized to (height, width) `size`, maybe stretched."""
  scale_y = size[0] / sample.image_size[0]
  scale_x = size[1] / sample.image_size[1]
  return _mapped(sample, [[scale_x, 0, 0], [0, scale_y, 0]], size)


def cropped(
  sample: Sample, *, top: int, left: int, size: tuple[int, int]
) -> Sample:
  """Returns the window of (height, width) `size` that starts at (top, left)."""
  return _mapped(sample, [[1, 0, -left], [0, 1, -top]], size)


def flipped(sample: Sample, *, horizontal: bool, vertical: bool) -> Sample:
  """Returns the sample mirrored left to right and/or top to bottom."""
  height, width = sample.image_size
  return _mapped(
    sample,
    [
      [-1 if horizontal else 1, 0, width if horizontal else 0],
      [0, -1 if vertical else 1, height if vertical else 0],
    ],
    sample.image_size,
  )


def transposed(sample: Sample) -> Sample:
  """Returns the sample with x and y swapped."""
  return _mapped(sample, [[0, 1, 0], [1, 0, 0]], sample.image_size[::-1])


def jitter_color(
  sample: Sample, rng: np.random.Generator, *, strength: float
) -> Sample:
  """Returns the sample with scaled brightness, contrast and saturation.

  All three are linear, so one colour matrix applies them in one pass.

  Args:
    sample: Any sample.
    rng: Source of the three factors.
    strength: Factors are uniform in [1 - strength, 1 + strength].

  Returns:
    The sample with a new uint8 image.
  """
  image = to_uint8(sample.image)
  brightness, contrast, saturation = rng.uniform(
    1 - strength, 1 + strength, size=3
  )
  grey = _LUMA @ cv2.mean(image)[:3]
  matrix = np.empty((3, 4))
  matrix[:, :3] = saturation * np.eye(3) + (1 - saturation) * _LUMA
  matrix[:, :3] *= brightness * contrast
  matrix[:, 3] = brightness * (1 - contrast) * grey
  return dataclasses.replace(sample, image=cv2.transform(image, matrix))


def boxes_in_frame(sample: Sample) -> np.ndarray:
  """Returns the annotated boxes in the frame of a sample, not clipped.

  Args:
    sample: Any sample.

  Returns:
    x1, y1, x2, y2 in continuous network pixels. [N, 4] float64.
  """
  corners = sample.boxes_xyxy.reshape(-1, 2, 2)
  corners = corners @ sample.affine[:, :2].T + sample.affine[:, 2]
  return np.sort(corners, axis=1).reshape(-1, 4)


@dataclasses.dataclass(frozen=True)
class Axis:
  """One network axis and the original axis that it displays.

  network = scale * original + offset, both continuous.

  Attributes:
    scale: Network pixels per original pixel, negative if mirrored.
    offset: Network position of the start of the original axis.
    length: Pixels of the original axis.
    extent: Valid network pixels, from 0.
  """

  scale: float
  offset: float
  length: int
  extent: int

  def to_original(self, position: float | np.ndarray) -> float | np.ndarray:
    """Returns continuous original positions of continuous network positions."""
    return (position - self.offset) / self.scale

  @functools.cached_property
  def visible(self) -> slice:
    """Returns the original pixels that reach into the valid extent."""
    ends = self.to_original(0.0), self.to_original(self.extent)
    return slice(
      max(0, math.floor(min(ends) + _TOLERANCE)),
      min(self.length, math.ceil(max(ends) - _TOLERANCE)),
    )


def split_axes(sample: Sample) -> tuple[bool, Axis, Axis]:
  """Returns the affine of a sample, split into its axes.

  Args:
    sample: Any sample.

  Returns:
    Whether x and y are swapped; the network's y axis; its x axis.
  """
  affine, original = sample.affine, sample.original_size
  is_transposed = affine[0, 0] == 0
  columns = (1, 0) if is_transposed else (0, 1)  # affine column for (x, y)
  x, y = (
    Axis(
      scale=float(affine[row, column]),
      offset=float(affine[row, 2]),
      length=original[1 - column],
      extent=sample.image_size[1 - row],
    )
    for row, column in enumerate(columns)
  )
  return is_transposed, y, x


def to_rgb(image: np.ndarray) -> np.ndarray:
  """Returns a grey, RGB or RGBA image with three channels.

  Args:
    image: [H0, W0], [H0, W0, 1], [H0, W0, 3] or [H0, W0, 4] uint8 or uint16.

  Returns:
    Grey repeated, alpha dropped. [H0, W0, 3], dtype kept.

  Raises:
    ValueError: If the array is not such an image.
  """
  if image.dtype not in (np.uint8, np.uint16):
    raise ValueError(
      f"expected uint8 or uint16 pixels, got {image.dtype}; scale the image "
      "to one of them"
    )
  if image.ndim == 2:
    image = image[..., None]
  if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
    raise ValueError(
      "expected an image [H, W] or [H, W, 1, 3 or 4 channels], got shape "
      f"{image.shape}"
    )
  if image.shape[2] == 1:
    image = np.repeat(image, 3, axis=2)
  return np.ascontiguousarray(image[..., :3])


def to_uint8(image: np.ndarray) -> np.ndarray:
  """Returns an image with 8 bits; an 8-bit image is returned unchanged.

  Cameras of 12 to 16 bits rarely use their full range, so the percentiles 0.1
  and 99.9 of the image (over all channels, which preserves the hue) become 0
  and 255.

  Args:
    image: [H, W, C] uint8 or uint16.

  Returns:
    [H, W, C] uint8.

  Raises:
    ValueError: If the image has another type.
  """
  if image.dtype == np.uint8:
    return image
  if image.dtype != np.uint16:
    raise ValueError(
      f"expected a uint8 or uint16 image, got {image.dtype}; convert it first."
    )
  counts = np.cumsum(np.bincount(image.ravel(), minlength=2**16))
  low, high = np.searchsorted(
    counts, np.multiply(_PERCENTILES, image.size / 100)
  )
  levels = (np.arange(2**16) - low) * (255 / max(high - low, 1))
  return np.clip(levels + 0.5, 0, 255).astype(np.uint8)[image]


def _scaled_size(
  size: tuple[int, int], scale: float, shift: float
) -> tuple[int, int]:
  return tuple(max(1, int(side * scale + shift)) for side in size)


def _mapped(sample: Sample, matrix: list, size: tuple[int, int]) -> Sample:
  """Returns the sample with `matrix`, from this frame to the next, applied."""
  matrix = np.asarray(matrix, np.float64)
  affine = matrix[:, :2] @ sample.affine
  affine[:, 2] += matrix[:, 2]
  return dataclasses.replace(
    sample, affine=affine, image_size=(int(size[0]), int(size[1]))
  )
