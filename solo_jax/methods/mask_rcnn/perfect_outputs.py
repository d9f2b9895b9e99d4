"""The targets of a region-based network as its outputs."""

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.mask_rcnn.network import Outputs
from solo_jax.methods.regions.detections import Detections
from solo_jax.methods.regions.mask_targets import MaskTargets, mask_targets


def perfect_outputs(batch: types.Batch, *, mask_size: int) -> Outputs:
  """Returns every instance detected by its own box, with the matching mask.

  Args:
    batch: Images with their targets.
    mask_size: Cells per side of a predicted mask.

  Returns:
    The outputs.
  """
  rule = MaskTargets(is_aligned=True, threshold=None)

  def masks_of_image(masks, rectangles, boxes):
    return mask_targets(
      masks.unpack(), rectangles, boxes, size=mask_size, rule=rule
    )

  probs = jax.vmap(masks_of_image)(
    batch.masks, batch.masks.rectangles(batch.boxes_xyxy), batch.boxes_xyxy
  )
  valid = batch.valid
  return Outputs(
    detections=Detections(
      boxes=jnp.where(valid[..., None], batch.boxes_xyxy, 0.0),
      scores=valid.astype(jnp.float32),
      labels=jnp.where(valid, batch.labels, 0),
      valid=valid,
    ),
    mask_probs=jnp.where(valid[..., None, None], probs, 0.0),
  )
