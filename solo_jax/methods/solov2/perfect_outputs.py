"""The targets of SOLOv2 as raw outputs."""

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.grid.perfect_outputs import Cells, logit
from solo_jax.methods.grid.refinement import DOUBLING, pass_coarse
from solo_jax.methods.solov2.network import Outputs, SOLOv2


def perfect_outputs(
  network: SOLOv2, batch: types.Batch, cells: Cells
) -> Outputs:
  """Returns outputs in which each instance has a channel and matching kernels.

  Refined masks are coarse ones enlarged: a head for all masks cannot know which
  of them it refines.

  Args:
    network: Whether it refines masks.
    batch: Images with their targets.
    cells: Cells of the batch.

  Returns:
    The outputs.
  """
  num_instances = batch.valid.shape[1]
  masks = batch.masks
  if network.refine:
    masks = masks.coarsen(2**DOUBLING.steps)
  feature = jnp.moveaxis(logit(masks.unpack()), 1, -1)
  return Outputs(
    category_logits=cells.category_logits,
    kernel=tuple(jax.nn.one_hot(x, num_instances) for x in cells.owner),
    mask_feature=feature,
    refiner=pass_coarse((feature,)) if network.refine else None,
  )
