"""The targets of associative embedding as raw outputs.

Shape letters: B images, N instances, T tag dimensions.
"""

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.associative_embedding.network import (
  AssociativeEmbedding,
  Outputs,
)
from solo_jax.methods.associative_embedding.targets import make_targets

SURE = 20.0  # logit of certainty
# Radius of a spatial embedding, as a share of the distance to the nearest other
# centre, whose pixels then have a membership below 1e-5.
REACH = 0.5
# Smallest radius: below it, float32 cannot resolve distances across an image.
MIN_RADIUS = 0.1


def perfect_outputs(
  network: AssociativeEmbedding, batch: types.Batch
) -> Outputs:
  """Returns outputs in which each pixel is certain of owner, class and tag.

  Args:
    network: Only its attributes are read.
    batch: Images with their targets.

  Returns:
    The outputs.
  """
  height, width = (n // network.mask_stride for n in batch.image.shape[1:3])
  targets = make_targets(batch, (height, width))
  if network.embedding == "spatial":
    tags, radius = _places(network, batch, targets.valid)
  else:
    tags, radius = _lattice(network, batch.valid.shape)
  of_owner = targets.owner[..., None]
  embedding = jnp.take_along_axis(tags, of_owner, axis=1)
  radius = jnp.take_along_axis(radius, targets.owner, axis=1)
  foreground = _logit(targets.foreground)[..., None]
  is_label = jax.nn.one_hot(targets.label, network.num_classes, dtype=bool)
  outputs = Outputs(
    category_logits=jnp.where(is_label, foreground, foreground - SURE),
    embedding=embedding,
    log_precision=-2 * jnp.log(radius),
    seed_logits=jnp.where(targets.foreground >= 0.5, SURE, -SURE),
    quality_logits=jnp.full_like(targets.foreground, SURE),
  )
  return jax.tree.map(
    lambda x: x.reshape(x.shape[0], height, width, *x.shape[2:]), outputs
  )


def _places(network, batch, valid):
  """Centres as tags [B, N, 2], radii [B, N] that reach no other centre."""
  tags = (batch.centers + 0.5) / network.coordinate_unit
  distance = jnp.linalg.norm(tags[:, :, None] - tags[:, None], axis=-1)
  is_self = jnp.eye(valid.shape[1], dtype=bool)
  distance = jnp.where(valid[:, None] & ~is_self, distance, jnp.inf)
  radius = REACH * jnp.min(distance, axis=-1)
  return tags, jnp.clip(radius, MIN_RADIUS, network.tag_radius)


def _lattice(network, shape):
  """Tags [B, N, T] four radii apart, and the radius everywhere [B, N]."""
  num_images, num_instances = shape
  num_tags = network.tag_channels
  side = 1
  while side**num_tags < num_instances:
    side += 1
  index = jnp.arange(num_instances)
  digits = [index // side**t % side for t in range(num_tags)]
  tags = 4 * network.tag_radius * jnp.stack(digits, axis=-1)
  tags = jnp.broadcast_to(tags.astype(jnp.float32), (num_images, *tags.shape))
  return tags, jnp.full(shape, network.tag_radius)


def _logit(probs):
  probs = jnp.clip(probs, 1e-6, 1 - 1e-6)
  return jnp.log(probs) - jnp.log1p(-probs)
