"""The targets of QueryInst as outputs of its network."""

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.queryinst.network import MASK_SIZE, Outputs
from solo_jax.methods.regions.mask_targets import MaskTargets, mask_targets

SOFT = MaskTargets(is_aligned=True, threshold=None)


def perfect_outputs(batch: types.Batch, *, number: int) -> Outputs:
  """Returns every instance detected by its own box, with the matching mask.

  Args:
    batch: Images with their targets.
    number: Detections of an image.

  Returns:
    One detection for each instance, as far as there is room.
  """

  def fit(x):
    x = x[:, :number]
    padding = [(0, 0), (0, number - x.shape[1]), *[(0, 0)] * (x.ndim - 2)]
    return jnp.pad(x, padding)

  rectangles = batch.masks.rectangles(batch.boxes_xyxy)
  probs = jax.vmap(
    lambda masks, frames, boxes: mask_targets(
      masks.unpack(), frames, boxes, size=2 * MASK_SIZE, rule=SOFT
    )
  )(batch.masks, rectangles, batch.boxes_xyxy)
  return Outputs(
    scores=fit(batch.valid.astype(jnp.float32)),
    labels=fit(batch.labels),
    boxes_xyxy=fit(batch.boxes_xyxy),
    mask_probs=fit(probs),
  )
