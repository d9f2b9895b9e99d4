"""From an image of any size to the network's input, on the host."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from solo_jax import types
from solo_jax.data import batching, transforms

# Shares of the short side.
FEW = (1 / 4, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1, 9 / 8, 5 / 4, 4 / 3, 3 / 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
  """One image ready for the network.

  Attributes:
    index: Position in the stream of images.
    images: Padded network input at each scale. [H, W, 3] uint8.
    image_sizes: Valid (height, width) of each.
    original_size: (H0, W0).
  """

  index: int
  images: tuple[np.ndarray, ...]
  image_sizes: tuple[tuple[int, int], ...]
  original_size: tuple[int, int]


class Preparation:
  """The rule of a checkpoint's `preprocessing`, at one or several scales."""

  def __init__(
    self,
    preprocessing: Mapping[str, Any],
    scales: Sequence[float],
    *,
    few_shapes: bool = False,
  ):
    """Keeps the rule.

    Args:
      preprocessing: See Predictor.
      scales: See Predictor.
      few_shapes: See Predictor.
    """
    self._rule = preprocessing
    self._scales = tuple(scales)
    # Tiles have few shapes anyway.
    is_whole = preprocessing["tile_size"] is None
    # Stretched images have one shape.
    self._has_few = few_shapes and is_whole and preprocessing["keep_aspect"]

  def __call__(self, index: int, image: np.ndarray) -> Prepared:
    """Returns an image, resized and padded.

    Args:
      index: Its position in the stream.
      image: Any image that `transforms.to_rgb` accepts.

    Returns:
      The network's input.

    Raises:
      ValueError: If the array is not an image.
    """
    whole = _unlabeled_sample(transforms.to_rgb(image))
    samples = [resize(whole, self._rule, scale) for scale in self._scales]
    return Prepared(
      index=index,
      images=tuple(
        batching.render_image(
          sample,
          image_size=self._pad(sample.image_size, scale),
          interpolation=self._rule["interpolation"],
        )
        for sample, scale in zip(samples, self._scales, strict=True)
      ),
      image_sizes=tuple(sample.image_size for sample in samples),
      original_size=whole.original_size,
    )

  def padded_size(self, size: tuple[int, int]) -> tuple[int, int]:
    """Returns the (height, width) of the network input of an image."""
    blank = np.broadcast_to(np.uint8(0), (*size, 3))
    sample = resize(_unlabeled_sample(blank), self._rule, self._scales[0])
    return self._pad(sample.image_size, self._scales[0])

  def _pad(self, size: tuple[int, int], scale: float) -> tuple[int, int]:
    if self._has_few:
      return pad_to_few(size, self._rule, scale)
    return pad(size, self._rule)


def resize(
  sample: types.Sample, rule: Mapping[str, Any], scale: float = 1.0
) -> types.Sample:
  """Returns an image or a tile as a resized sample; nothing is rendered yet.

  Args:
    sample: Any sample; its frame is resized.
    rule: short_side, max_side, keep_aspect, size_rounding and tile_size of a
      config's `preprocessing`; other entries are ignored.
    scale: Factor of the result, for test-time augmentation.

  Returns:
    The sample in its network frame.
  """
  short_side = rule["short_side"]
  if not rule["keep_aspect"]:
    side = max(1, round(scale * short_side))
    return transforms.resized(sample, (side, side))
  if rule["tile_size"] is not None:
    # An image smaller than a tile is scaled like a whole tile, not enlarged.
    share = min(sample.image_size) / rule["tile_size"]
    short_side = max(1, round(short_side * min(share, 1)))
  return transforms.resize_to_fit(
    sample,
    short_side=max(1, round(scale * short_side)),
    max_side=max(1, round(scale * rule["max_side"])),
    size_rounding=rule["size_rounding"],
  )


def pad(size: tuple[int, int], rule: Mapping[str, Any]) -> tuple[int, int]:
  """Returns (height, width) rounded up to multiples of `pad_multiple`."""
  multiple = rule["pad_multiple"]
  height, width = (-(-side // multiple) * multiple for side in size)
  return height, width


def pad_to_few(
  size: tuple[int, int], rule: Mapping[str, Any], scale: float
) -> tuple[int, int]:
  """Returns (height, width) rounded up so that photographs share few sizes.

  With a short side S and a long side L, each side becomes the first of L and
  of S times FEW in which it fits, in multiples of `pad_multiple`: 224, 416,
  512, 608, 704, 800, 928, 1024, 1088, 1216 or 1344 for 800, 1333 and 32. So
  there are at most 21 padded sizes, instead of 88. The usual aspect ratios of
  photographs, 1:1, 5:4, 4:3, 3:2 and those of L, are padded no more than by
  `pad`, others usually by an eighth: much more lowers accuracy
  (docs/results.md).

  Args:
    size: Size of the resized image.
    rule: short_side, max_side and pad_multiple of a config's `preprocessing`.
    scale: The factor it was resized with, as in `resize`.

  Returns:
    The size, at least that of `pad`.
  """
  short, long = scale * rule["short_side"], scale * rule["max_side"]
  wanted = (*(short * share for share in FEW if short * share < long), long)
  steps = [pad((round(side), 1), rule)[0] for side in wanted]
  height, width = (
    next((step for step in steps if step >= side), side) for side in size
  )
  return pad((height, width), rule)


def _unlabeled_sample(image: np.ndarray) -> types.Sample:
  """Returns an RGB image as a Sample without instances."""
  height, width = image.shape[:2]
  return types.Sample(
    image=image,
    masks=np.zeros((0, height, width), bool),
    labels=np.zeros(0, np.int32),
    areas=np.zeros(0),
    boxes_xyxy=np.zeros((0, 4)),
    is_crowd=np.zeros(0, bool),
    annotation_ids=np.zeros(0, np.int64),
    image_id=0,
    file_name="",
    original_size=(height, width),
    affine=np.eye(2, 3),
    image_size=(height, width),
  )
