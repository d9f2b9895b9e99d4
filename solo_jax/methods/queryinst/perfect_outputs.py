"""The targets of QueryInst as outputs of its network."""

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.mask_rcnn import perfect_outputs as regions
from solo_jax.methods.queryinst.network import MASK_SIZE, Outputs


def perfect_outputs(batch: types.Batch, *, number: int) -> Outputs:
  """Returns every instance detected by its own box, with the matching mask.

  Args:
    batch: Images with their targets.
    number: Detections per image.

  Returns:
    One detection for each instance, as far as there is room.
  """

  def fit(x):
    x = x[:, :number]
    padding = [(0, 0), (0, number - x.shape[1]), *[(0, 0)] * (x.ndim - 2)]
    return jnp.pad(x, padding)

  whole = regions.perfect_outputs(batch, mask_size=2 * MASK_SIZE)
  found = jax.tree.map(fit, whole.detections)
  return Outputs(
    scores=found.scores,
    labels=found.labels,
    boxes_xyxy=found.boxes,
    mask_probs=fit(whole.mask_probs),
  )
