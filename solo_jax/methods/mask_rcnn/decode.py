"""Detections in the common form: masks over their own boxes."""

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.regions.detections import Detections


def decode(
  detections: Detections, mask_probs: jax.Array, *, paste: str
) -> types.Decoded:
  """Returns detections and their masks as `Decoded`.

  Every candidate above the score threshold competes, so none is dropped.

  Args:
    detections: [B, M] each.
    mask_probs: [B, M, s, s] float32.
    paste: See `types.BoxMasks`.

  Returns:
    The same, in common terms.
  """
  return types.Decoded(
    masks=types.BoxMasks(
      probs=mask_probs, boxes_xyxy=detections.boxes, paste=paste
    ),
    scores=detections.scores,
    labels=detections.labels,
    valid=detections.valid,
    num_dropped=jnp.zeros(len(detections.scores), jnp.int32),
    boxes_xyxy=detections.boxes,
  )
