"""Detections of QueryInst as `types.Decoded`."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.mask_rcnn import decode as regions
from solo_jax.methods.mask_rcnn.network import Outputs as RegionOutputs
from solo_jax.methods.queryinst.network import Outputs
from solo_jax.methods.regions.box_coding import clip
from solo_jax.methods.regions.detections import Detections
from solo_jax.methods.variants import Variant

# Overlap of boxes above which two variants found the same object.
MERGE_THRESHOLD = 0.5


def decode(
  outputs: Outputs, image_size: jax.Array, *, score_threshold: float
) -> types.Decoded:
  """Returns the detections; see `Method.decode`.

  Args:
    outputs: Outputs of the network.
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


def merge(
  variants: Sequence[Variant], *, max_detections: int, score_threshold: float
) -> types.Decoded:
  """Returns the joined detections of variants of B images.

  Nothing is suppressed in a single pass, but several passes find an object
  several times: the best of a class suppresses the others, as in region-based
  networks.

  Args:
    variants: Variants of the images.
    max_detections: Per image.
    score_threshold: A detection's score must be above it.

  Returns:
    The detections in the frame of the first variant.
  """
  found = regions.merge(
    [_as_regions(variant, score_threshold) for variant in variants],
    nms_threshold=MERGE_THRESHOLD,
    max_detections=max_detections,
    paste="aligned",
  )
  boxes = clip(found.boxes_xyxy, variants[0].image_size)
  return dataclasses.replace(found, boxes_xyxy=boxes)


def _as_regions(variant: Variant, score_threshold: float) -> Variant:
  found = variant.outputs
  detections = Detections(
    boxes=found.boxes_xyxy,
    scores=found.scores,
    labels=found.labels,
    valid=found.scores > score_threshold,
  )
  outputs = RegionOutputs(detections=detections, mask_probs=found.mask_probs)
  return dataclasses.replace(variant, outputs=outputs)
