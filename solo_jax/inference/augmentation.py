"""Test-time augmentation: an image at several sizes, and mirrored.

The network processes each variant separately; the method joins the outputs
(`Method.merge`) in the frame of the first variant.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.interface import Method
from solo_jax.methods.variants import Variant


def detect_variants(
  method: Method,
  variables: dict,
  images: Sequence[jax.Array],
  image_sizes: Sequence[jax.Array],
  *,
  flip: bool,
) -> types.Decoded:
  """Runs a method on variants of a batch.

  Args:
    method: A method that has `merge`.
    variables: {'params', 'batch_stats'} of its network.
    images: The batch at each size, padded. [B, H, W, 3] uint8.
    image_sizes: Valid (height, width) of each. [B, 2] int32.
    flip: Whether to also process each size mirrored.

  Returns:
    The detections in the frame of the first size.
  """
  variants = []
  for image, image_size in zip(images, image_sizes, strict=True):
    copies = [image, mirrored(image, image_size)] if flip else [image]

    def run(copy, image_size=image_size):
      return method.network.apply(variables, copy, image_size, train=False)

    outputs = jax.lax.map(run, jnp.stack(copies))  # a loop: compiled once
    variants += [
      Variant(
        outputs=jax.tree.map(lambda x, i=i: x[i], outputs),
        image_size=image_size,
        padded_size=image.shape[1:3],
        is_mirrored=i == 1,
      )
      for i in range(len(copies))
    ]
  return method.merge(variants)


def mirrored(image: jax.Array, image_size: jax.Array) -> jax.Array:
  """Returns padded images with their valid part mirrored left to right.

  Args:
    image: [B, H, W, 3].
    image_size: Valid (height, width). [B, 2] int32.

  Returns:
    Images whose valid part begins at (0, 0) again. [B, H, W, 3].
  """
  columns = jnp.arange(image.shape[2])[None]
  width = image_size[:, 1:]
  source = jnp.where(columns < width, width - 1 - columns, columns)  # [B, W]
  return jnp.take_along_axis(image, source[:, None, :, None], axis=2)
