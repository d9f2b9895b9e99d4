"""The loss of Mask R-CNN, its cascades and HTC.

Shape letters: B images, N instances, R regions per image.
"""

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.losses.cross_entropy import (
  sigmoid_cross_entropy,
  softmax_cross_entropy,
)
from solo_jax.methods.device_counts import count_everywhere
from solo_jax.methods.mask_rcnn.network import MaskRCNN
from solo_jax.methods.regions.cascade import StageLoss, region_loss
from solo_jax.methods.regions.loss import ProposalLoss, take_instances
from solo_jax.methods.regions.mask_targets import MaskTargets, mask_targets
from solo_jax.methods.regions.network import Features
from solo_jax.methods.regions.sampling import Regions


def mask_rcnn_loss(
  network: MaskRCNN,
  batch: types.Batch,
  *,
  proposals: ProposalLoss,
  stages: StageLoss,
  masks: MaskTargets,
  semantic_weight: float,
  axis_name: str | None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the loss of a batch, as `Method.loss`.

  Args:
    network: Bound, with a random stream named 'draws'.
    batch: The batch, with `semantic` where the network has a semantic branch.
    proposals: How the proposal head is trained.
    stages: How the stages are trained.
    masks: How mask targets are made.
    semantic_weight: Weight of the semantic branch's loss.
    axis_name: Mapped device axis of the counts.

  Returns:
    See `region_loss`.
  """
  features = network.features(
    batch.image, batch.image_size, train=True, row=batch.row
  )
  return loss_of_features(
    network,
    features,
    batch,
    proposals=proposals,
    stages=stages,
    masks=masks,
    semantic_weight=semantic_weight,
    axis_name=axis_name,
  )


def loss_of_features(
  network: MaskRCNN,
  features: Features,
  batch: types.Batch,
  *,
  proposals: ProposalLoss,
  stages: StageLoss,
  masks: MaskTargets,
  semantic_weight: float,
  axis_name: str | None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the loss of a batch whose features are computed; see above."""

  def mask_loss(stage, features, regions):
    if stage >= network.num_mask_heads:
      return {}
    logits = network.mask_stages(
      features,
      regions.boxes,
      take_instances(batch.labels, regions),
      regions.is_positive,
      last=stage,
      train=True,
    )[-1]
    targets = targets_of_regions(batch, regions, logits.shape[-1], masks)
    value = mean_of_positives(
      sigmoid_cross_entropy(logits, targets), regions, axis_name
    )
    return dict(mask_loss=value)

  total, terms = region_loss(
    network,
    features,
    batch,
    proposals=proposals,
    stages=stages,
    mask_loss=mask_loss,
    axis_name=axis_name,
  )
  if features.semantic_logits is not None:
    semantic, dropped = semantic_loss(features.semantic_logits, batch)
    semantic *= semantic_weight
    total += semantic
    terms |= dict(semantic_loss=semantic, semantic_pixels_dropped=dropped)
  return total, terms


def targets_of_regions(
  batch: types.Batch, regions: Regions, size: int, rule: MaskTargets
) -> jax.Array:
  """Returns the mask targets of regions.

  Args:
    batch: With masks.
    regions: [B, R] each.
    size: Cells per side.
    rule: How targets are made.

  Returns:
    Meaningless where a region is not positive. [B, R, size, size] float32.
  """

  def of_image(masks, rectangles, regions):
    rectangles = rectangles[regions.instance]
    # Other boxes may be much larger than an instance that is not their own, and
    # would need that many samples.
    boxes = jnp.where(regions.is_positive[:, None], regions.boxes, rectangles)
    return mask_targets(
      masks.unpack(regions.instance), rectangles, boxes, size=size, rule=rule
    )

  return jax.vmap(of_image)(
    batch.masks, batch.masks.rectangles(batch.boxes_xyxy), regions
  )


def mean_of_positives(
  losses: jax.Array, regions: Regions, axis_name: str | None
) -> jax.Array:
  """Returns the mean over the positive regions of all devices.

  Args:
    losses: [B, R, ...] float32.
    regions: [B, R] each.
    axis_name: Mapped device axis.

  Returns:
    0 without positive regions. [] float32.
  """
  shares = jnp.mean(losses.reshape(*losses.shape[:2], -1), axis=-1)
  number = count_everywhere(jnp.sum(regions.is_positive), axis_name)
  return jnp.sum(shares, where=regions.is_positive) / number


def semantic_loss(
  logits: jax.Array, batch: types.Batch
) -> tuple[jax.Array, jax.Array]:
  """Returns the loss of the semantic branch.

  Args:
    logits: [B, h, w, classes] float32.
    batch: With `semantic`.

  Returns:
    The mean over all pixels, those to be ignored count with 0. [] float32.
    Pixels ignored because the branch does not have their class. [] int32.
  """
  labels = jnp.asarray(batch.semantic, jnp.int32)
  labelled = (labels != types.NO_STUFF) & batch.image_valid[:, None, None]
  counts = labelled & (labels < logits.shape[-1])
  losses = softmax_cross_entropy(logits, jnp.where(counts, labels, 0))
  loss = jnp.mean(jnp.where(counts, losses, 0.0))
  return loss, jnp.sum(labelled & ~counts)
