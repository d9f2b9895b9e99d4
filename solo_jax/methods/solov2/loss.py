"""The SOLOv2 loss: the shared cell loss on dynamic masks.

Shape letters: B images, G cells, P positive pairs, E mask-feature channels.
"""

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.grid.loss import LossSettings, cell_loss
from solo_jax.methods.grid.masks import Factor, MaskLoss, dice, mask_sum
from solo_jax.methods.grid.refinement import refined_sum
from solo_jax.methods.grid.targets import flatten_levels
from solo_jax.methods.solov2.network import Outputs


def solov2_loss(
  outputs: Outputs,
  batch: types.Batch,
  settings: LossSettings,
  *,
  mask_loss: MaskLoss = dice,
  axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the loss of a batch (SOLOv2, https://arxiv.org/abs/2003.10152).

  A cell claimed by two instances trains its kernel on both masks. Where masks
  are refined, the loss of their points is added to that of each coarse mask.

  Args:
    outputs: Network outputs.
    batch: The batch.
    settings: See `cell_loss`.
    mask_loss: Loss of each mask, given its logits.
    axis_name: Name of the mapped device axis; None on a single device.

  Returns:
    The loss, [] float32, and its terms; see `cell_loss`.
  """

  def sum_masks(targets):
    kernel = jnp.take_along_axis(
      flatten_levels(outputs.kernel), targets.cell[..., None], axis=1
    )  # [B, P, E]
    bias = jnp.zeros(targets.cell.shape, kernel.dtype)
    factor = Factor(outputs.mask_feature, kernel, bias)
    if outputs.refiner is not None:
      return refined_sum(
        factor, outputs.refiner, batch, targets, mask_loss=mask_loss
      )
    return mask_sum(
      (factor,),
      batch.masks,
      targets.instance,
      targets.valid,
      mask_loss=mask_loss,
    )

  return cell_loss(
    outputs.category_logits, batch, sum_masks, settings, axis_name
  )
