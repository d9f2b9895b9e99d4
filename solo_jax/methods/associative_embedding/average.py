"""Averages the network's outputs for several variants of an image.

Shape letters: B images, h, w map size of a variant, K classes.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from solo_jax.methods.associative_embedding.network import Outputs
from solo_jax.methods.variants import Variant, to_frame

# Averaged probabilities become logits again, within this distance of 0.
MAX_LOGIT = 15.0


def average_outputs(
  variants: Sequence[Variant], *, coordinate_unit: float
) -> Outputs:
  """Returns a spatial embedding's mean outputs in the first variant's frame.

  Pixel by pixel: probabilities of classes, seeds and quality, the places that
  pixels vote for, and the logarithms of the precision.

  Args:
    variants: Variants of the batch.
    coordinate_unit: Input pixels per unit of the embedding.

  Returns:
    Outputs with the logits of the averaged probabilities.
  """
  frame = variants[0]
  size = frame.outputs.seed_logits.shape[1:3]
  total = to_maps(frame, frame, coordinate_unit)
  for variant in variants[1:]:
    maps = to_maps(variant, frame, coordinate_unit)
    bring = jax.vmap(lambda *args: to_frame(*args, size))
    total += bring(
      maps,
      dataclasses.replace(variant, outputs=None),
      dataclasses.replace(frame, outputs=None),
    )
  maps = jnp.moveaxis(total / len(variants), 1, -1)  # [B, h, w, K + 6]
  num_classes = frame.outputs.category_logits.shape[-1]
  category, others = jnp.split(maps, [num_classes + 1], axis=-1)
  category = jnp.log(jnp.maximum(category, jnp.exp(-MAX_LOGIT)))
  x, y, log_precision, seed, quality = jnp.moveaxis(others, -1, 0)
  return Outputs(
    category_logits=category[..., 1:] - category[..., :1],
    embedding=jnp.stack([x, y], axis=-1),
    log_precision=log_precision,
    seed_logits=_logit(seed),
    quality_logits=_logit(quality),
  )


def to_maps(
  variant: Variant, frame: Variant, coordinate_unit: float
) -> jax.Array:
  """Returns outputs as maps whose values mean the same in every variant.

  Args:
    variant: Variant of the batch.
    frame: Variant whose lengths and coordinates are used.
    coordinate_unit: Input pixels per unit of the embedding.

  Returns:
    Background and class probabilities, place x and y, log precision, seed and
    quality probability, still at the variant's pixels. [B, K + 6, h, w].
  """
  outputs = variant.outputs
  # (x, y) of each image, [B, 1, 1, 2].
  width_height = variant.image_size[:, None, None, ::-1] / coordinate_unit
  scale = variant.image_size / frame.image_size
  scale = scale[:, None, None, ::-1]
  place = outputs.embedding
  if variant.is_mirrored != frame.is_mirrored:
    x, y = place[..., 0], place[..., 1]
    place = jnp.stack([width_height[..., 0] - x, y], axis=-1)
  place = place / scale
  logits = outputs.category_logits
  category = jax.nn.softmax(
    jnp.concatenate([jnp.zeros_like(logits[..., :1]), logits], axis=-1)
  )
  others = jnp.stack(
    [
      # A radius is a length: half as long where the image is half as large.
      outputs.log_precision + jnp.sum(jnp.log(scale), axis=-1),
      jax.nn.sigmoid(outputs.seed_logits),
      jax.nn.sigmoid(outputs.quality_logits),
    ],
    axis=-1,
  )
  maps = jnp.concatenate([category, place, others], axis=-1)
  return jnp.moveaxis(maps, -1, 1)


def _logit(probs: jax.Array) -> jax.Array:
  logits = jnp.log(probs) - jnp.log1p(-probs)
  return jnp.clip(logits, -MAX_LOGIT, MAX_LOGIT)
