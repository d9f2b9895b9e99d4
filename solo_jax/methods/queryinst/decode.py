"""Detections of QueryInst as `types.Decoded`."""

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.queryinst.network import Outputs
from solo_jax.methods.regions.box_coding import clip


def decode(
  outputs: Outputs, image_size: jax.Array, *, score_threshold: float
) -> types.Decoded:
  """Returns the detections; see `Method.decode`.

  Args:
    outputs: Of the network.
    image_size: Valid (height, width) of each image. [B, 2] int32.
    score_threshold: A detection's score must be above it.

  Returns:
    Masks over the predicted boxes; boxes are clipped to the image.
  """
  valid = outputs.scores > score_threshold
  return types.Decoded(
    masks=types.BoxMasks(
      probs=outputs.mask_probs, boxes_xyxy=outputs.boxes_xyxy
    ),
    scores=jnp.where(valid, outputs.scores, 0.0),
    labels=jnp.where(valid, outputs.labels, 0),
    valid=valid,
    num_dropped=jnp.zeros(len(valid), jnp.int32),
    boxes_xyxy=clip(outputs.boxes_xyxy, image_size),
  )
