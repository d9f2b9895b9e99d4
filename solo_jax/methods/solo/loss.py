"""The loss of SOLO and Decoupled SOLO: every level has its own mask size.

Shape letters: B images, N instances, P positive pairs, G cells per level,
h and w mask resolution.
"""

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.grid.loss import LossSettings, cell_loss
from solo_jax.methods.grid.masks import Factor, MaskLoss, dice, mask_sum
from solo_jax.methods.grid.targets import Targets
from solo_jax.methods.solo.network import Outputs


def solo_loss(
  outputs: Outputs,
  batch: types.Batch,
  settings: LossSettings,
  *,
  mask_loss: MaskLoss = dice,
  axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the loss of a batch (SOLO, https://arxiv.org/abs/1912.04488).

  A cell claimed by two instances belongs to the later one.

  Differs from the reference: the mask targets of coarser levels are made from
  those in the batch, see `coarsen_masks`, where the published code shrinks the
  masks of the padded image.

  Args:
    outputs: Network outputs.
    batch: The batch; its masks are at least as fine as any level's.
    settings: See `cell_loss`.
    mask_loss: Loss of each mask, given the logits of its factors.
    axis_name: Name of the mapped device axis; None on a single device.

  Returns:
    The loss, [] float32, and its terms; see `cell_loss`.
  """
  level_masks = tuple(
    coarsen_masks(batch.masks, size) for size in outputs.mask_sizes
  )
  return loss_on_masks(
    outputs,
    batch,
    level_masks,
    settings,
    mask_loss=mask_loss,
    axis_name=axis_name,
  )


def loss_on_masks(
  outputs: Outputs,
  batch: types.Batch,
  level_masks: tuple[types.PackedMasks, ...],
  settings: LossSettings,
  *,
  mask_loss: MaskLoss = dice,
  axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the loss with given mask targets.

  Args:
    outputs: Network outputs.
    batch: The batch; its masks are not used.
    level_masks: Masks of all instances [B, N] at each level's size.
    settings: See `cell_loss`.
    mask_loss: Loss of each mask, given the logits of its factors.
    axis_name: Name of the mapped device axis; None on a single device.

  Returns:
    The loss, [] float32, and its terms; see `cell_loss`.
  """

  def sum_masks(targets):
    first, total = 0, 0.0
    for factors, masks in zip(outputs.factors, level_masks, strict=True):
      total += _level_sum(factors, masks, targets, first, mask_loss)
      first += factors[0].kernel.shape[0]
    return total

  return cell_loss(
    outputs.category_logits, batch, sum_masks, settings, axis_name
  )


def _level_sum(
  factors, masks, targets: Targets, first: int, mask_loss: MaskLoss
) -> jax.Array:
  """Returns the summed loss of the level whose cells begin at `first`."""
  num_cells = factors[0].kernel.shape[0]
  cell = targets.cell - first
  here = targets.valid & (cell >= 0) & (cell < num_cells)  # [B, P]
  order = jnp.argsort(~here, axis=1, stable=True)  # pairs of this level first
  cell, here, instance = (
    jnp.take_along_axis(x, order, axis=1)
    for x in (cell, here, targets.instance)
  )
  cell = jnp.where(here, cell, 0)
  return mask_sum(
    tuple(Factor(f.feature, f.kernel[cell], f.bias[cell]) for f in factors),
    masks,
    instance,
    here,
    mask_loss=mask_loss,
  )


def coarsen_masks(
  masks: types.PackedMasks, size: tuple[int, int]
) -> types.PackedMasks:
  """Returns mask targets at the resolution of a level.

  Differs from the reference, which applies the rule for bits (see
  `PackedMasks.coarsen`) to network pixels. A batch of stride 4 does not have
  the pixels at the centre of a block of 8 or 16.

  Args:
    masks: [B, N] masks of [H, W].
    size: (h, w) of the result; H / h is 1 or even, and equals W / w.

  Returns:
    `masks` if they have this size, else coverage (for bits: 0 or 255).

  Raises:
    ValueError: If masks of this size cannot be made from `masks`.
  """
  height, _ = size
  num_rows, _ = masks.size
  ratio = num_rows // height
  if num_rows != ratio * height or (ratio != 1 and ratio % 2):
    raise ValueError(
      f"cannot make masks of {height} rows from {num_rows}: the strides "
      "of a level's masks must be the batch's, or an even multiple of it; "
      "check network.strides and transforms.mask_stride"
    )
  if ratio == 1:
    return masks
  return masks.coarsen(ratio)
