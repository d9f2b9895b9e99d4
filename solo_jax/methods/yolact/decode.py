"""Detections of YOLACT as `types.Decoded`."""

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.regions.box_coding import clip
from solo_jax.methods.yolact.network import Outputs


def decode(outputs: Outputs, image_size: jax.Array) -> types.Decoded:
  """Returns detections by falling score; see `Method.decode`.

  Args:
    outputs: Of the network.
    image_size: Valid (height, width) of each image. [B, 2] int32.

  Returns:
    Frame masks of the prototypes' resolution and predicted boxes, clipped to
    the image.
  """
  found = outputs.detections
  scores, order = jax.lax.top_k(found.scores, found.scores.shape[1])

  def ordered(x):
    index = order.reshape(*order.shape, *[1] * (x.ndim - 2))
    return jnp.take_along_axis(x, index, axis=1)

  valid = ordered(found.valid)
  return types.Decoded(
    masks=types.FrameMasks(probs=ordered(outputs.mask_probs), resize="direct"),
    scores=jnp.where(valid, scores, 0.0),
    labels=jnp.where(valid, ordered(found.labels), 0),
    valid=valid,
    num_dropped=jnp.zeros(len(scores), jnp.int32),
    boxes_xyxy=clip(ordered(found.boxes_xyxy), image_size),
  )
