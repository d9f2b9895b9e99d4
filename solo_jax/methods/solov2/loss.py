"""The SOLOv2 loss: focal loss on cells, dice loss on masks.

Shape letters: B images, G cells, K classes, P positive pairs, E mask-feature
channels, h and w mask resolution.
"""

import functools

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.losses.dice import dice_loss
from solo_jax.losses.focal import sigmoid_focal_loss
from solo_jax.methods.solov2.network import Outputs
from solo_jax.methods.solov2.targets import Targets, assign_cells


def solov2_loss(
  outputs: Outputs,
  batch: types.Batch,
  *,
  scale_ranges: tuple[tuple[float, float], ...],
  center_sigma: float,
  max_positives: int,
  category_weight: float,
  mask_weight: float,
  focal_alpha: float,
  focal_gamma: float,
  mask_average: str,
  axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Computes the loss of a batch (SOLOv2, https://arxiv.org/abs/2003.10152).

  category_weight * sum(focal) / (positive cells + 1)
  + mask_weight * sum(dice) / positive pairs. The counts run over the batch on
  all devices, so that the mean of the per-device losses is the loss of the
  global batch. An empty batch has a mask loss of 0 with zero gradient.

  Args:
    outputs: Network outputs.
    batch: The batch; images with `image_valid` False count for nothing.
    scale_ranges: Object sizes of each level, see `assign_cells`.
    center_sigma: See `assign_cells`.
    max_positives: Positive pairs kept per image.
    category_weight: Weight of the focal loss.
    mask_weight: Weight of the dice loss.
    focal_alpha: See `sigmoid_focal_loss`.
    focal_gamma: See `sigmoid_focal_loss`.
    mask_average: 'pairs' divides by the (cell, instance) pairs, as the SOLO
      authors and AdelaiDet do; 'cells' by the distinct positive cells, as
      mmdetection does.
    axis_name: Name of the mapped device axis; None on a single device.

  Returns:
    The loss, [] float32, and its terms: category_loss and mask_loss
    (weighted), num_positives (mean per image), and the counts
    positives_dropped and instances_dropped of this device's batch.
  """
  num_grids = tuple(x.shape[1] for x in outputs.category_logits)
  assign = functools.partial(
    assign_cells,
    padded_size=batch.image.shape[1:3],
    num_grids=num_grids,
    scale_ranges=scale_ranges,
    center_sigma=center_sigma,
    max_positives=max_positives,
  )
  valid = batch.valid & batch.image_valid[:, None]
  targets = jax.vmap(assign)(
    batch.centers, batch.boxes_xyxy, batch.labels, valid
  )
  category_logits = flatten_levels(outputs.category_logits)  # [B, G, K]
  kernel = flatten_levels(outputs.kernel)  # [B, G, E]

  # Means over devices of sums divided by these are sums over global counts.
  total = functools.partial(_mean_over_devices, axis_name=axis_name)
  num_cells = total(jnp.sum(targets.category >= 0))
  num_pairs = total(jnp.sum(targets.valid))

  focal = sigmoid_focal_loss(
    category_logits,
    jax.nn.one_hot(targets.category, category_logits.shape[-1]),
    alpha=focal_alpha,
    gamma=focal_gamma,
  )
  focal = jnp.where(batch.image_valid[:, None, None], focal, 0.0)
  category_loss = category_weight * jnp.sum(focal)
  # "+ 1" counts once over all devices.
  num_devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
  category_loss /= num_cells + 1 / num_devices

  dice = mask_dice(outputs.mask_feature, kernel, batch.masks, targets)
  num_masks = num_pairs if mask_average == 'pairs' else num_cells
  mask_loss = mask_weight * jnp.sum(dice) / jnp.maximum(
    num_masks, 1 / num_devices
  )
  terms = dict(
    category_loss=category_loss,
    mask_loss=mask_loss,
    num_positives=jnp.mean(jnp.sum(targets.valid, axis=1, dtype=jnp.float32)),
    positives_dropped=jnp.sum(targets.num_dropped),
    instances_dropped=jnp.sum(batch.num_dropped),
  )
  return category_loss + mask_loss, terms


def mask_dice(
  mask_feature: jax.Array,
  kernel: jax.Array,
  masks: jax.Array,
  targets: Targets,
) -> jax.Array:
  """Computes the dice loss of the mask of every positive pair.

  Args:
    mask_feature: [B, h, w, E] float.
    kernel: Dynamic kernel of every cell. [B, G, E] float.
    masks: Packed bits [B, N, h, w / 8] or coverage [B, N, h, w], uint8.
    targets: Batched targets, leaves [B, P].

  Returns:
    Dice loss, 0 where padded. [B, P] float32.
  """
  is_packed = masks.shape[-1] != mask_feature.shape[2]

  def image_dice(feature, kernel, masks, targets):
    logits = jnp.einsum(
      'pe,hwe->phw',
      kernel[targets.cell],
      feature,
      preferred_element_type=jnp.float32,
    )
    target = masks[targets.instance]  # [P, h, w or w / 8]
    if is_packed:
      target = jnp.unpackbits(target, axis=-1).astype(jnp.float32)
    else:
      target = target.astype(jnp.float32) / 255
    return dice_loss(jax.nn.sigmoid(logits), target, where=targets.valid)

  return jax.vmap(image_dice)(mask_feature, kernel, masks, targets)


def flatten_levels(levels: tuple[jax.Array, ...]) -> jax.Array:
  """Concatenates [B, S, S, C] levels to [B, G, C]."""
  return jnp.concatenate(
    [x.reshape(x.shape[0], -1, x.shape[-1]) for x in levels], axis=1
  )


def _mean_over_devices(count: jax.Array, axis_name: str | None) -> jax.Array:
  count = count.astype(jnp.float32)
  return count if axis_name is None else jax.lax.pmean(count, axis_name)
