"""Detections in the common form: masks over their own boxes."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.regions.detections import Detections
from solo_jax.methods.regions.nms import nms_by_score
from solo_jax.methods.variants import Variant, box_masks_to_frame


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
    The same as `Decoded`.
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


def merge(
  variants: Sequence[Variant],
  *,
  nms_threshold: float,
  max_detections: int,
  paste: str,
) -> types.Decoded:
  """Returns the joined detections of variants of B images.

  All compete in the frame of the first: one suppresses another of its class as
  in a single pass. A detection keeps the mask that it was found with.

  Args:
    variants: Their outputs have `detections` and `mask_probs`.
    nms_threshold: Overlap of boxes above which one suppresses another.
    max_detections: M.
    paste: See `types.BoxMasks`.

  Returns:
    The detections in the frame of the first variant.
  """

  def merge_image(variants):
    found = [_in_frame(x, variants[0], paste) for x in variants]
    boxes, probs, scores, labels, valid = map(
      jnp.concatenate, zip(*found, strict=True)
    )
    kept, is_kept = nms_by_score(
      boxes,
      scores,
      valid,
      threshold=nms_threshold,
      max_kept=max_detections,
      group=labels,
    )
    detections = Detections(
      boxes=jnp.where(is_kept[:, None], boxes[kept], 0.0),
      scores=jnp.where(is_kept, scores[kept], 0.0),
      labels=jnp.where(is_kept, labels[kept], 0),
      valid=is_kept,
    )
    return detections, probs[kept]

  detections, probs = jax.vmap(merge_image)(variants)
  return decode(detections, probs, paste=paste)


def _in_frame(variant: Variant, frame: Variant, paste: str) -> tuple:
  """Returns boxes, masks, scores, labels and validity in another frame."""
  found = variant.outputs.detections
  masks = box_masks_to_frame(
    types.BoxMasks(
      probs=variant.outputs.mask_probs, boxes_xyxy=found.boxes, paste=paste
    ),
    variant,
    frame,
  )
  boxes = masks.boxes_xyxy
  return boxes, masks.probs, found.scores, found.labels, found.valid
