"""The loss that all SOLO methods share: on cells (focal) and on masks.

Shape letters: B images, G cells, K classes, P positive pairs.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.losses.focal import sigmoid_focal_loss
from solo_jax.methods.device_counts import (
  count_everywhere,
  mean_over_devices,
  share_of_one,
)
from solo_jax.methods.grid.targets import (
  Assignment,
  Targets,
  assign_batch,
  flatten_levels,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossSettings:
  """How cells and their masks are trained.

  Attributes:
    assignment: Which cells belong to an instance.
    category_weight: Weight of the focal loss.
    mask_weight: Weight of the mask loss.
    focal_alpha: See `sigmoid_focal_loss`.
    focal_gamma: See `sigmoid_focal_loss`.
    mask_average: 'pairs' divides by the (cell, instance) pairs, as the SOLO
      authors and AdelaiDet do; 'cells' by the distinct positive cells, as
      mmdetection does. They are equal if each cell has one instance.
  """

  assignment: Assignment
  category_weight: float
  mask_weight: float
  focal_alpha: float
  focal_gamma: float
  mask_average: str = "pairs"


def make_loss_settings(
  section: Mapping[str, Any], *, shared_cells: str
) -> LossSettings:
  """Returns the settings of a loss section.

  Args:
    section: The `loss` section of a config.
    shared_cells: See `Assignment`.

  Returns:
    The settings.
  """
  section = dict(section)
  return LossSettings(
    assignment=Assignment(
      scale_ranges=tuple(map(tuple, section.pop("scale_ranges"))),
      center_sigma=section.pop("center_sigma"),
      max_positives=section.pop("max_positives"),
      shared_cells=shared_cells,
    ),
    **section,
  )


def cell_loss(
  category_logits: tuple[jax.Array, ...],
  batch: types.Batch,
  mask_sum: Callable[[Targets], jax.Array],
  settings: LossSettings,
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
    settings: Settings of the assignment and of both losses.
    axis_name: Name of the mapped device axis; None on a single device.

  Returns:
    The loss, [] float32, and its terms: category_loss and mask_loss
    (weighted), num_positives (mean per image), and the counts
    positives_dropped and instances_dropped of this device's batch.
  """
  targets = assign_batch(
    batch,
    num_grids=tuple(x.shape[1] for x in category_logits),
    assignment=settings.assignment,
  )
  logits = flatten_levels(category_logits)  # [B, G, K]

  num_cells = jnp.sum(targets.category >= 0)
  num_pairs = jnp.sum(targets.valid)

  is_positive = jax.nn.one_hot(targets.category, logits.shape[-1], dtype=bool)
  focal = sigmoid_focal_loss(
    logits,
    is_positive,
    alpha=settings.focal_alpha,
    gamma=settings.focal_gamma,
  )
  is_counted = batch.image_valid[:, None, None]
  # Two sums: in a single one, the many terms near 1e-6 of negative cells would
  # be rounded away by the large ones, the more images a device has. The loss
  # would depend on the number of devices in its fifth digit.
  category_loss = settings.category_weight * (
    jnp.sum(focal, where=is_counted & is_positive)
    + jnp.sum(focal, where=is_counted & ~is_positive)
  )
  category_loss /= mean_over_devices(num_cells, axis_name) + share_of_one(
    axis_name
  )

  num_masks = num_pairs if settings.mask_average == "pairs" else num_cells
  mask_loss = settings.mask_weight * mask_sum(targets)
  mask_loss /= count_everywhere(num_masks, axis_name)
  terms = dict(
    category_loss=category_loss,
    mask_loss=mask_loss,
    num_positives=jnp.mean(jnp.sum(targets.valid, axis=1, dtype=jnp.float32)),
    positives_dropped=jnp.sum(targets.num_dropped),
    instances_dropped=jnp.sum(batch.num_dropped),
  )
  return category_loss + mask_loss, terms
