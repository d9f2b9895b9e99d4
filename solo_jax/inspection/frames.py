"""The network's view of an image, with the instances in it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from solo_jax import types
from solo_jax.data import augmentations, batching, mask_frames, transforms
from solo_jax.inference.preparation import pad, resize
from solo_jax.inference.tiling import tile_origins


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
  """An image, or one tile of it, in network coordinates.

  Attributes:
    sample: The whole image, or the tile; its affine maps into the frame.
    padded_size: (H, W) of the network input.
    origin: (top, left) of the tile in the image.
    size: (height, width) of the tile in original pixels.
  """

  sample: types.Sample
  padded_size: tuple[int, int]
  origin: tuple[int, int]
  size: tuple[int, int]


def inference_frames(
  sample: types.Sample, preprocessing: Mapping[str, Any]
) -> list[Frame]:
  """Returns an image cut and resized as `inference.predictor.Predictor` does.

  Args:
    sample: As read from its record.
    preprocessing: short_side, max_side, pad_multiple, tile_size and
      tile_overlap; other entries are ignored.

  Returns:
    One frame, or one per tile, row by row.
  """
  tile_size = preprocessing["tile_size"]
  height, width = sample.original_size
  if tile_size is None:
    origins, side = [(0, 0)], max(height, width)
  else:
    origins = tile_origins(
      (height, width), tile_size, preprocessing["tile_overlap"]
    )
    side = tile_size
  frames = []
  for top, left in origins:
    size = min(side, height - top), min(side, width - left)
    tile = transforms.cropped(sample, top=top, left=left, size=size)
    if tile_size is not None:
      # Cut before it is resized, as the predictor does: the origin of a tile
      # need not be a whole pixel of the resized image.
      tile = batching.render_sample(tile, interpolation="bilinear")
    tile = resize(tile, preprocessing)
    frames.append(
      Frame(
        sample=tile,
        padded_size=pad(tile.image_size, preprocessing),
        origin=(top, left),
        size=size,
      )
    )
  return frames


def training_frame(
  sample: types.Sample,
  rng: np.random.Generator,
  settings: Mapping[str, Any],
  *,
  group_by_orientation: bool,
) -> Frame:
  """Returns one training augmentation of an image, without mixed-in images.

  Args:
    sample: As read from its record.
    rng: Source of all draws.
    settings: The `transforms` section of a config.
    group_by_orientation: Portrait images use the swapped `image_size`.

  Returns:
    The frame; its `origin` and `size` are those of the whole image.
  """
  height, width = sample.original_size
  padded_size = tuple(settings["image_size"])
  if group_by_orientation and height > width:
    padded_size = padded_size[::-1]
  augmentation = augmentations.build(settings["augment"], padded_size)
  return Frame(
    sample=augmentation(sample, rng),
    padded_size=padded_size,
    origin=(0, 0),
    size=(height, width),
  )


def make_example(
  frame: Frame, settings: Mapping[str, Any], *, interpolation: str = "bilinear"
) -> dict[str, Any]:
  """Returns a frame rendered as `data.pipeline` does, with its mask targets.

  Args:
    frame: From this module.
    settings: The `transforms` section of a config.
    interpolation: See `batching.render_image`.

  Returns:
    One row of a Batch, see `batching.make_example`.
  """
  return batching.make_example(
    frame.sample,
    image_size=frame.padded_size,
    mask_frame=mask_frames.from_settings(settings),
    max_instances=settings["max_instances"],
    min_mask_area=settings["min_mask_area"],
    max_crowds=settings["max_crowds"],
    interpolation=interpolation,
  )


def mask_weights(example: Mapping[str, Any]) -> np.ndarray:
  """Returns the unpacked mask targets of an example's valid instances.

  Args:
    example: From `make_example`.

  Returns:
    [n, h, w] float32 in [0, 1].
  """
  return example["masks"].unpack(np.flatnonzero(example["valid"]))


def target_masks(
  example: Mapping[str, Any],
) -> types.FrameMasks | types.BoxMasks:
  """Returns the mask targets of an example as if a network had predicted them.

  Args:
    example: From `make_example`.

  Returns:
    Those of its valid instances, without a batch dimension.
  """
  weights = mask_weights(example)
  if isinstance(example["masks"], types.BoxMaskTargets):
    boxes = example["boxes_xyxy"][example["valid"]]
    return types.BoxMasks(probs=weights, boxes_xyxy=boxes)
  return types.FrameMasks(probs=weights)
