"""Detections of YOLACT as `types.Decoded`."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.regions.box_coding import clip
from solo_jax.methods.regions.nms import nms_by_score
from solo_jax.methods.variants import Variant, boxes_to_frame, to_frame
from solo_jax.methods.yolact.network import Outputs


def decode(outputs: Outputs, image_size: jax.Array) -> types.Decoded:
  """Returns detections by decreasing score; see `Method.decode`.

  Args:
    outputs: Outputs of the network.
    image_size: Valid (height, width) of each image. [B, 2] int32.

  Returns:
    Frame masks of the prototypes' resolution and predicted boxes, clipped to
    the image.
  """
  found = outputs.detections
  scores, order = jax.lax.top_k(found.scores, found.scores.shape[1])

  def ordered(x):
    index = order.reshape(*order.shape, *[1] * (x.ndim - 2))
    return jnp.take_along_axis(x, index, axis=1, mode="clip")

  valid = ordered(found.valid)
  return types.Decoded(
    masks=types.FrameMasks(probs=ordered(outputs.mask_probs), resize="direct"),
    scores=jnp.where(valid, scores, 0.0),
    labels=jnp.where(valid, ordered(found.labels), 0),
    valid=valid,
    num_dropped=jnp.zeros(len(scores), jnp.int32),
    boxes_xyxy=clip(ordered(found.boxes_xyxy), image_size),
  )


def merge(
  variants: Sequence[Variant], *, nms_threshold: float, max_detections: int
) -> types.Decoded:
  """Returns the joined detections of variants of B images.

  All compete in the frame of the first: one suppresses another of its class
  whose box it overlaps. A detection keeps the mask that it was found with.

  Args:
    variants: Their outputs are `Outputs`.
    nms_threshold: Overlap of boxes above which one suppresses another.
    max_detections: M.

  Returns:
    The detections in the frame of the first variant.
  """
  size = variants[0].outputs.mask_probs.shape[2:]

  def merge_image(variants):
    found = [_in_frame(x, variants[0], size) for x in variants]
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
    return types.Decoded(
      masks=types.FrameMasks(probs=probs[kept], resize="direct"),
      scores=jnp.where(is_kept, scores[kept], 0.0),
      labels=jnp.where(is_kept, labels[kept], 0),
      valid=is_kept,
      num_dropped=jnp.zeros((), jnp.int32),
      boxes_xyxy=jnp.where(is_kept[:, None], boxes[kept], 0.0),
    )

  return jax.vmap(merge_image)(variants)


def _in_frame(variant: Variant, frame: Variant, size: tuple[int, int]) -> tuple:
  """Returns boxes, masks, scores, labels and validity in another frame."""
  found = variant.outputs.detections
  boxes = boxes_to_frame(found.boxes_xyxy, variant, frame)
  probs = to_frame(variant.outputs.mask_probs, variant, frame, size)
  boxes = clip(boxes, frame.image_size)
  return boxes, probs, found.scores, found.labels, found.valid
