"""Pictures of the pixels' outputs: tags, seeds and groups.

Shape letters: B images, Q pixels (h * w, flattened), T tag dimensions.
"""

import colorsys
import functools

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.methods.associative_embedding.decode import (
  DecodeSettings,
  group_pixels,
)
from solo_jax.methods.associative_embedding.loss import foreground_probs
from solo_jax.methods.associative_embedding.network import Outputs
from solo_jax.methods.associative_embedding.targets import inside_image

DIM = 0.08  # grey of ungrouped pixels
# Dark blue to white by way of red and yellow.
HEAT = np.array(
  [[0.03, 0.05, 0.2], [0.5, 0.1, 0.45], [0.95, 0.35, 0.2], [1.0, 0.95, 0.75]]
)


def draw_views(
  outputs: Outputs, image_size: jax.Array, settings: DecodeSettings
) -> dict[str, jax.Array]:
  """Returns pictures of a batch's maps at their own resolution.

  'tags': the first three principal components of the foreground's tags as red,
  green and blue, so that pixels of one colour are close in tag space. 'seeds':
  the seed probability. 'groups': a colour for each group of the first radius.

  Args:
    outputs: Network outputs.
    image_size: Valid (height, width). [B, 2] int32.
    settings: Settings of the decoder.

  Returns:
    RGB pictures by name. [B, h, w, 3] float32 in [0, 1].
  """
  size = outputs.seed_logits.shape[1:3]
  inside = inside_image(image_size, size, settings.mask_stride)

  def draw_image(inputs):
    maps, inside = inputs
    foreground = foreground_probs(maps.category_logits)
    foreground = foreground >= settings.foreground_threshold
    groups = group_pixels(maps, inside, settings.radii[0], settings)
    views = dict(
      tags=tag_colors(maps.embedding, foreground & inside),
      seeds=heat_colors(jnp.where(inside, jax.nn.sigmoid(maps.seed_logits), 0)),
      groups=group_colors(settings.max_detections)[groups.assignment],
    )
    return jax.tree.map(lambda x: x.reshape(*size, 3), views)

  return jax.lax.map(draw_image, (outputs.flatten(), inside))


def tag_colors(embedding: jax.Array, foreground: jax.Array) -> jax.Array:
  """Returns colours by the principal components of the pixels' tags.

  Args:
    embedding: [Q, T] float.
    foreground: Pixels to colour; the others are dark. [Q] bool.

  Returns:
    RGB; a component spans [0.15, 1] over the foreground, and missing components
    (T < 3) are medium. [Q, 3] float32 in [0, 1].
  """
  weights = foreground.astype(jnp.float32)[:, None]
  count = jnp.maximum(jnp.sum(weights), 1.0)
  tags = jnp.where(foreground[:, None], embedding, 0.0)
  tags = weights * (tags - jnp.sum(tags, axis=0) / count)
  _, vectors = jnp.linalg.eigh(tags.T @ tags / count)
  components = tags @ vectors[:, ::-1][:, :3]  # by decreasing variance
  low = jnp.min(jnp.where(foreground[:, None], components, jnp.inf), axis=0)
  high = jnp.max(jnp.where(foreground[:, None], components, -jnp.inf), axis=0)
  span = high - low
  share = jnp.where(
    span > 1e-6, (components - low) / jnp.maximum(span, 1e-6), 0.5
  )
  share = jnp.pad(share, ((0, 0), (0, 3 - share.shape[1])), constant_values=0.5)
  return jnp.where(foreground[:, None], 0.15 + 0.85 * share, DIM)


def heat_colors(values: jax.Array) -> jax.Array:
  """Returns colours of values in [0, 1], dark to bright. [...] to [..., 3]."""
  stops = np.linspace(0, 1, len(HEAT))
  interpolate = functools.partial(jnp.interp, values, stops)
  return jnp.stack([interpolate(channel) for channel in HEAT.T], axis=-1)


def group_colors(count: int) -> jax.Array:
  """Returns group colours, consecutive ones distinct; 0 is dark. [M + 1, 3]."""
  golden = 0.618034
  colors = [
    colorsys.hsv_to_rgb(
      i * golden % 1, (0.65, 0.9)[i % 2], (1.0, 0.8)[i // 2 % 2]
    )
    for i in range(count)
  ]
  return jnp.asarray([(DIM,) * 3, *colors], jnp.float32)
