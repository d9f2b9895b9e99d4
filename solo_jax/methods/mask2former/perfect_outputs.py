"""The targets of Mask2Former as raw outputs.

Shape letters: B images, N instances, Q queries, K classes.
"""

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.mask2former.network import (
  MASK_STRIDE,
  Mask2Former,
  Outputs,
)
from solo_jax.methods.mask2former.targets import make_targets

SURE = 20.0  # logit of certainty


def perfect_outputs(network: Mask2Former, batch: types.Batch) -> Outputs:
  """Returns outputs in which each instance has a query certain of it.

  Args:
    network: Only its attributes are read.
    batch: Images with their targets.

  Returns:
    The outputs of every layer.
  """
  targets = make_targets(batch, network.num_queries)
  num_missing = network.num_queries - targets.valid.shape[1]

  def fill(x, value):
    padding = [(0, 0), (0, num_missing), *[(0, 0)] * (x.ndim - 2)]
    return jnp.pad(x, padding, constant_values=value)

  coverage = cell_coverage(targets.masks)
  mask_logits = jnp.where(
    targets.valid[..., None, None], SURE * (2 * coverage - 1), -SURE
  )
  label = jnp.where(targets.valid, targets.labels, network.num_classes)
  label = fill(label, network.num_classes)
  is_label = jax.nn.one_hot(label, network.num_classes + 1, dtype=bool)
  num_outputs = network.num_decoder_layers + 1
  return Outputs(
    class_logits=(jnp.where(is_label, SURE, 0.0),) * num_outputs,
    mask_logits=(fill(mask_logits, -SURE),) * num_outputs,
  )


def cell_coverage(masks: types.PackedMasks) -> jax.Array:
  """Returns the covered share of each cell of the network's masks.

  Args:
    masks: [B, N] masks of a stride of at most that of the network's.

  Returns:
    [B, N, H / 4, W / 4] float32 in [0, 1].
  """
  weights, side = masks.unpack(), MASK_STRIDE // masks.stride
  *shape, height, width = weights.shape
  cells = weights.reshape(*shape, height // side, side, width // side, side)
  return cells.mean((-3, -1))
