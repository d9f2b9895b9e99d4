"""Variants of an image, scaled or mirrored, and their maps in one frame.

Test-time augmentation gives the network several variants of an image. Before
their outputs can be joined, maps are brought to the frame of the first one.

Shape letters: B images, h and w map size of a variant, n maps.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from solo_jax import types


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
  """The outputs for one variant of B images.

  Attributes:
    outputs: What the method's network returns, or any tree made from it.
    image_size: Valid (height, width) of the network input. [B, 2] int32.
    padded_size: (H, W) of the network input.
    is_mirrored: Whether the valid image is mirrored, left to right.
  """

  outputs: Any
  image_size: jax.Array
  padded_size: tuple[int, int] = dataclasses.field(metadata=dict(static=True))
  is_mirrored: bool = dataclasses.field(metadata=dict(static=True))


def to_frame(
  maps: jax.Array, variant: Variant, frame: Variant, size: tuple[int, int]
) -> jax.Array:
  """Returns one variant's maps of an image in the frame of another variant.

  Bilinear, antialiased where the map shrinks.

  Args:
    maps: [n, h, w] float.
    variant: The variant that they belong to, of one image: `image_size` is [2].
    frame: The variant of the same image whose frame is the target.
    size: (h, w) of a map there.

  Returns:
    [n, *size] float32; 0 in the padding of the frame.
  """
  rows, columns = (
    axis_weights(
      num_in,
      variant.image_size[axis] * (num_in / variant.padded_size[axis]),
      num_out,
      frame.image_size[axis] * (num_out / frame.padded_size[axis]),
      is_reversed=axis == 1 and variant.is_mirrored != frame.is_mirrored,
    )
    for axis, (num_in, num_out) in enumerate(
      zip(maps.shape[1:], size, strict=True)
    )
  )
  maps = jnp.einsum("yh,nhw->nyw", rows, maps.astype(jnp.float32))
  return jnp.einsum("xw,nyw->nyx", columns, maps)


def boxes_to_frame(
  boxes_xyxy: jax.Array, variant: Variant, frame: Variant
) -> jax.Array:
  """Returns one variant's boxes of an image in the frame of another variant.

  Args:
    boxes_xyxy: Continuous coordinates of the variant. [n, 4] float32.
    variant: See `to_frame`.
    frame: See `to_frame`.

  Returns:
    Continuous coordinates of the frame. [n, 4] float32.
  """
  height, width = frame.image_size / variant.image_size
  left, top, right, bottom = (
    boxes_xyxy * jnp.stack([width, height, width, height])
  ).T
  if variant.is_mirrored != frame.is_mirrored:
    end = frame.image_size[1]
    left, right = end - right, end - left
  return jnp.stack([left, top, right, bottom], axis=1)


def box_masks_to_frame(
  masks: types.BoxMasks, variant: Variant, frame: Variant
) -> types.BoxMasks:
  """Returns masks over boxes in another variant's frame, cells unchanged.

  Args:
    masks: Masks of one image of the variant: [n, s, s] and [n, 4].
    variant: See `to_frame`.
    frame: See `to_frame`.

  Returns:
    The masks there.
  """
  probs = masks.probs
  if variant.is_mirrored != frame.is_mirrored:
    probs = probs[..., ::-1]
  boxes_xyxy = boxes_to_frame(masks.boxes_xyxy, variant, frame)
  return dataclasses.replace(masks, probs=probs, boxes_xyxy=boxes_xyxy)


def axis_weights(
  num_in: int,
  valid_in: jax.Array,
  num_out: int,
  valid_out: jax.Array,
  *,
  is_reversed: bool,
) -> jax.Array:
  """Returns how the cells of one axis of a map read those of another.

  Args:
    num_in: Input cells.
    valid_in: How many of them the image covers, not a whole number in general.
      [] float32.
    num_out: Output cells.
    valid_out: How many of them the image covers. [] float32.
    is_reversed: Whether the two run in opposite directions.

  Returns:
    Rows sum to 1, or to 0 beyond the image. [num_out, num_in] float32.
  """
  share = (jnp.arange(num_out) + 0.5) / valid_out
  if is_reversed:
    share = 1 - share
  position = jnp.clip(share * valid_in - 0.5, 0, num_in - 1)
  distance = jnp.abs(position[:, None] - jnp.arange(num_in)[None])
  # A triangle filter; when shrinking, as wide as two output cells are apart.
  weights = jnp.maximum(1 - distance / jnp.maximum(valid_in / valid_out, 1), 0)
  weights /= jnp.sum(weights, axis=1, keepdims=True)
  is_inside = jnp.arange(num_out) < valid_out
  return jnp.where(is_inside[:, None], weights, 0.0)
