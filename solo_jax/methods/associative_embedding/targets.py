"""Targets of the associative embedding losses, built on the device.

Shape letters: B images, N instances, Q pixels (h * w, flattened).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax import types
from solo_jax.losses.chunks import (
  CHUNK,
  get_chunk,
  num_chunks,
  pad_to_chunks,
  put_chunk,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Targets:
  """Targets of the pixels and instances of a batch.

  Attributes:
    masks: Mask target of each instance. [B, N] masks of [h, w].
    valid: Real instances with at least one pixel. [B, N] bool.
    pixel_valid: Pixels of the image, without padding; none of an image that
      is ignored. [B, Q] bool.
    foreground: Share of the pixel that instances cover. [B, Q] float32.
    owner: Instance that covers most of the pixel, the smallest one if equal; 0
      without any. [B, Q] int32.
    label: Class of the owner. [B, Q] int32.
  """

  masks: types.PackedMasks
  valid: jax.Array
  pixel_valid: jax.Array
  foreground: jax.Array
  owner: jax.Array
  label: jax.Array


def make_targets(batch: types.Batch, size: tuple[int, int]) -> Targets:
  """Returns the targets of a batch.

  Args:
    batch: The batch.
    size: (h, w) of the network's maps.

  Returns:
    The targets.
  """
  height, width = size
  num_instances = batch.valid.shape[1]
  num_pixels = height * width
  claimed = batch.valid & batch.image_valid[:, None]

  def image_targets(inputs):
    masks, valid = inputs

    def add_chunk(i, carry):
      has_pixels, total, front, owner = carry
      weights = get_chunk(masks, i).unpack_flat()  # [CHUNK, Q]
      weights *= get_chunk(valid, i)[:, None]
      area = jnp.sum(weights, axis=1)
      # Of instances that cover a pixel equally, the smallest is in front.
      order = weights - 1e-3 * (area / num_pixels)[:, None]
      order = jnp.where(weights > 0, order, -1.0)
      first = jnp.argmax(order, axis=0).astype(jnp.int32)
      best = jnp.max(order, axis=0)
      return (
        put_chunk(has_pixels, area > 0, i),
        total + jnp.sum(weights, axis=0),
        jnp.maximum(front, best),
        jnp.where(best > front, i * CHUNK + first, owner),
      )

    start = (
      jnp.zeros(valid.shape, bool),
      jnp.zeros(num_pixels, jnp.float32),
      jnp.full(num_pixels, -1.0, jnp.float32),
      jnp.zeros(num_pixels, jnp.int32),
    )
    has_pixels, total, _, owner = jax.lax.fori_loop(
      0, num_chunks(valid), add_chunk, start
    )
    return has_pixels[:num_instances], jnp.minimum(total, 1.0), owner

  valid, foreground, owner = jax.lax.map(
    image_targets, pad_to_chunks((batch.masks, claimed))
  )
  stride = batch.image.shape[1] // height
  return Targets(
    masks=batch.masks,
    valid=valid & claimed,
    pixel_valid=inside_image(batch.image_size, size, stride)
    & batch.image_valid[:, None],
    foreground=foreground,
    owner=owner,
    label=jnp.take_along_axis(batch.labels, owner, axis=1),
  )


def inside_image(
  image_size: jax.Array, size: tuple[int, int], stride: int
) -> jax.Array:
  """Returns which pixels of a map lie in the image and not in its padding.

  Args:
    image_size: Valid (height, width) of each image in input pixels. [B, 2]
      int32.
    size: (h, w) of the map.
    stride: Input pixels per pixel of the map.

  Returns:
    [B, h * w] bool.
  """
  rows = np.arange(size[0])[None] * stride < image_size[:, :1]
  columns = np.arange(size[1])[None] * stride < image_size[:, 1:]
  inside = rows[:, :, None] & columns[:, None, :]
  return inside.reshape(inside.shape[0], -1)
