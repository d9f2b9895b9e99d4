"""The loss that all SOLO methods share: on cells (focal) and on masks.

Shape letters: B images, G cells, K classes, P positive pairs.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.losses.focal import sigmoid_focal_loss
from solo_jax.methods.grid.targets import Targets, assign_batch, flatten_levels


def cell_loss(
  category_logits: tuple[jax.Array, ...],
  batch: types.Batch,
  mask_sum: Callable[[Targets], jax.Array],
  *,
  scale_ranges: tuple[tuple[float, float], ...],
  center_sigma: float,
  max_positives: int,
  shared_cells: str,
  category_weight: float,
  mask_weight: float,
  focal_alpha: float,
  focal_gamma: float,
  mask_average: str,
  axis_name: str | None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the loss of a batch (SOLO, https://arxiv.org/abs/1912.04488).

  category_weight * sum(focal) / (positive cells + 1)
  + mask_weight * sum(mask loss) / positive pairs. The counts run over the batch
  on all devices, so that the mean of the per-device losses is the loss of the
  global batch. An empty batch has a mask loss of 0 with zero gradient.

  Args:
    category_logits: One [B, S, S, K] per level.
    batch: The batch; images with `image_valid` False are ignored.
    mask_sum: Sums the loss of the masks of all positive pairs, given the
      batched targets (leaves [B, ...]).
    scale_ranges: Object sizes of each level, see `assign_cells`.
    center_sigma: See `assign_cells`.
    max_positives: Positive pairs kept per image.
    shared_cells: See `assign_cells`.
    category_weight: Weight of the focal loss.
    mask_weight: Weight of the mask loss.
    focal_alpha: See `sigmoid_focal_loss`.
    focal_gamma: See `sigmoid_focal_loss`.
    mask_average: 'pairs' divides by the (cell, instance) pairs, as the SOLO
      authors and AdelaiDet do; 'cells' by the distinct positive cells, as
      mmdetection does. They are equal if each cell has one instance.
    axis_name: Name of the mapped device axis; None on a single device.

  Returns:
    The loss, [] float32, and its terms: category_loss and mask_loss
    (weighted), num_positives (mean per image), and the counts
    positives_dropped and instances_dropped of this device's batch.
  """
  targets = assign_batch(
    batch,
    num_grids=tuple(x.shape[1] for x in category_logits),
    scale_ranges=scale_ranges,
    center_sigma=center_sigma,
    max_positives=max_positives,
    shared_cells=shared_cells,
  )
  logits = flatten_levels(category_logits)  # [B, G, K]

  # Means over devices of sums divided by these are sums over global counts.
  total = functools.partial(_mean_over_devices, axis_name=axis_name)
  num_cells = total(jnp.sum(targets.category >= 0))
  num_pairs = total(jnp.sum(targets.valid))

  is_positive = jax.nn.one_hot(targets.category, logits.shape[-1], dtype=bool)
  focal = sigmoid_focal_loss(
    logits, is_positive, alpha=focal_alpha, gamma=focal_gamma
  )
  is_counted = batch.image_valid[:, None, None]
  # Two sums: in a single one, the many terms near 1e-6 of negative cells would
  # be rounded away by the large ones, the more images a device has. The loss
  # would depend on the number of devices in its fifth digit.
  category_loss = category_weight * (
    jnp.sum(focal, where=is_counted & is_positive)
    + jnp.sum(focal, where=is_counted & ~is_positive)
  )
  # "+ 1" counts once over all devices.
  num_devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
  category_loss /= num_cells + 1 / num_devices

  num_masks = num_pairs if mask_average == "pairs" else num_cells
  mask_loss = mask_weight * mask_sum(targets)
  mask_loss /= jnp.maximum(num_masks, 1 / num_devices)
  terms = dict(
    category_loss=category_loss,
    mask_loss=mask_loss,
    num_positives=jnp.mean(jnp.sum(targets.valid, axis=1, dtype=jnp.float32)),
    positives_dropped=jnp.sum(targets.num_dropped),
    instances_dropped=jnp.sum(batch.num_dropped),
  )
  return category_loss + mask_loss, terms


def _mean_over_devices(count: jax.Array, axis_name: str | None) -> jax.Array:
  count = count.astype(jnp.float32)
  return count if axis_name is None else jax.lax.pmean(count, axis_name)
