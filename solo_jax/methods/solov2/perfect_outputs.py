"""The targets of SOLOv2 as raw outputs."""

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.grid.perfect_outputs import Cells, logit
from solo_jax.methods.solov2.network import Outputs, SOLOv2


def perfect_outputs(
  network: SOLOv2, batch: types.Batch, cells: Cells
) -> Outputs:
  """Returns outputs in which each instance has a channel and matching kernels.

  Args:
    network: Not used: the outputs are the same for every SOLOv2.
    batch: Images with their targets.
    cells: Cells of the batch.

  Returns:
    The outputs.
  """
  del network
  num_instances = batch.valid.shape[1]
  feature = logit(batch.masks.unpack())
  return Outputs(
    category_logits=cells.category_logits,
    kernel=tuple(jax.nn.one_hot(x, num_instances) for x in cells.owner),
    mask_feature=jnp.moveaxis(feature, 1, -1),
  )
