"""Finds instances that no group of pixels can represent. N instances."""

import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.associative_embedding.network import AssociativeEmbedding
from solo_jax.methods.associative_embedding.targets import make_targets
from solo_jax.methods.interface import LostInstances, Way

NO_PIXELS = Way(
  "too few pixels",
  "fewer map pixels of its own than decode.min_pixels: no group",
)
SAME_CENTER = Way(
  "same centre", "centre within a map pixel of another's: the same vote"
)


def lost_instances(
  batch: types.Batch,
  *,
  network: AssociativeEmbedding,
  foreground_threshold: float,
  min_pixels: int,
) -> LostInstances:
  """Returns instances with too few pixels or with another's centre.

  Args:
    batch: Batch of one image.
    network: Only its attributes are read.
    foreground_threshold: See `decode`.
    min_pixels: See `decode`.

  Returns:
    The lost instances.
  """
  height, width = (n // network.mask_stride for n in batch.image.shape[1:3])
  targets = make_targets(batch, (height, width))
  is_grouped = targets.foreground[0] >= foreground_threshold
  num_pixels = jnp.zeros(batch.valid.shape[1], jnp.int32)
  num_pixels = num_pixels.at[targets.owner[0]].add(is_grouped)
  too_few = num_pixels < min_pixels
  same = jnp.zeros_like(too_few)
  if network.embedding == "spatial":
    centers = batch.centers[0]
    distance = jnp.linalg.norm(centers[:, None] - centers[None], axis=-1)
    close = (distance < network.mask_stride) & batch.valid[0][None]
    same = jnp.any(jnp.tril(close & ~too_few[None], k=-1), axis=1)
  return LostInstances(
    ways=(NO_PIXELS, SAME_CENTER),
    is_lost=(too_few, same & ~too_few),
    sizes={"own map pixels": num_pixels},
  )
