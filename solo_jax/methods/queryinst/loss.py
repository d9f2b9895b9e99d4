"""The losses of QueryInst (https://arxiv.org/abs/2105.01928, section 3.3).

Shape letters: B images, N instances (padded), Q proposals, K classes, s side of
masks, R rows of the mask heads.
"""

import dataclasses
import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.losses.dice import dice_loss
from solo_jax.losses.focal import sigmoid_focal_loss
from solo_jax.losses.giou import generalized_iou
from solo_jax.methods.device_counts import count_everywhere
from solo_jax.methods.queries.matching import match
from solo_jax.methods.queryinst.network import MASK_SIZE, Stage
from solo_jax.methods.regions.mask_targets import MaskTargets, mask_targets
from solo_jax.methods.regions.pyramid import pool_boxes

FOCAL = dict(alpha=0.25, gamma=2.0)
TARGETS = MaskTargets(is_aligned=True, threshold=0.5)
DICE_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossSettings:
  """Weights of the losses and of the costs that match them; trained masks.

  Attributes:
    category_weight: Focal loss of the classes.
    box_weight: Distance of corners, as shares of the image.
    giou_weight: One minus the generalized IoU.
    mask_weight: Dice loss; masks are not used for the matching.
    masks_per_image: Masks that are trained, on average over the images of a
      device; None: all.
  """

  category_weight: float
  box_weight: float
  giou_weight: float
  mask_weight: float
  masks_per_image: int | None


def queryinst_loss(
  network: nn.Module,
  batch: types.Batch,
  *,
  settings: LossSettings,
  axis_name: str | None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the loss of a bound network; see `Method.loss`."""
  pyramid = network.features(
    batch.image, batch.image_size, train=True, row=batch.row
  )
  return stage_losses(
    network,
    pyramid,
    batch,
    settings=settings,
    axis_name=axis_name,
    train=True,
  )


def stage_losses(
  network: nn.Module,
  pyramid: Sequence[jax.Array],
  batch: types.Batch,
  *,
  settings: LossSettings,
  axis_name: str | None,
  train: bool,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the sum of the losses of all stages, each matched separately.

  Args:
    network: Bound network.
    pyramid: P2 to P5.
    batch: The batch; if there are more instances than proposals, the first ones
      are trained.
    settings: See `LossSettings`.
    axis_name: Mapped device axis.
    train: Whether the mask heads' batch norms use the batch's statistics.

  Returns:
    The sum, [] float32, and the terms; those of stages after the first have
    their number in front. `instances_dropped` and `masks_dropped` are counts. A
    batch without instances trains the classes alone.
  """
  dropped = jnp.sum(batch.num_dropped)
  dropped += jnp.sum(batch.valid[:, network.num_proposals :])
  batch = _first_instances(batch, network.num_proposals)
  valid = batch.valid & batch.image_valid[:, None]
  count = count_everywhere(jnp.sum(valid), axis_name)
  stages = network.find_boxes(pyramid, batch.image_size)
  # All stages at once, matchings, losses and pooled features: no stage needs
  # those of the previous one, and one program compiles faster than many.
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *stages)
  costs = jax.vmap(lambda stage: find_costs(stage, batch, settings))(stacked)
  queries = match(costs, jnp.broadcast_to(valid, costs.shape[:-1]))
  matched = jax.vmap(_take)(stacked, queries)
  rows = choose_rows(valid, settings.masks_per_image)
  num_masks = jnp.sum(rows[2])
  found = jax.vmap(lambda *x: _box_losses(*x, batch, valid))(stacked, queries)
  found["mask"] = _mask_losses(network, pyramid, matched, batch, rows, train)
  counts = dict.fromkeys(found, count)
  counts["mask"] = count_everywhere(num_masks, axis_name)
  terms = {}
  for name, values in found.items():
    values *= getattr(settings, f"{name}_weight") / counts[name]
    first = len(stages) - len(values)  # only the last ones may have masks
    for stage, value in enumerate(values, start=first):
      prefix = f"stage{stage}_" if stage else ""
      terms[f"{prefix}{name}_loss"] = value
  return sum(terms.values()), terms | {
    "instances_dropped": dropped,
    "masks_dropped": jnp.sum(valid) - num_masks,
  }


def choose_rows(
  valid: jax.Array, masks_per_image: int | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns the instances whose masks are trained, packed over the images.

  Most images have far fewer instances than there is room for, and a mask head
  costs as much for padding. All images share R rows, B times `masks_per_image`.
  The first instances of all images come first, so that images with many
  instances lose some if there are too few rows.

  Args:
    valid: False for padding. [B, N] bool.
    masks_per_image: Rows per image; None: N.

  Returns:
    Image and instance of each row, [R] int32 each, and whether it counts. [R]
    bool.
  """
  num_images, num_instances = valid.shape
  number = num_images * min(masks_per_image or num_instances, num_instances)
  flat = valid.T.reshape(-1)
  order = jnp.argsort(~flat, stable=True)[:number]
  return order % num_images, order // num_images, flat[order]


def find_costs(
  stage: Stage, batch: types.Batch, settings: LossSettings
) -> jax.Array:
  """Returns what it costs to train each proposal on each instance.

  Args:
    stage: Classes and boxes.
    batch: The batch.
    settings: Weights of the costs.

  Returns:
    Without gradient. [B, N, Q] float32.
  """
  stage = jax.lax.stop_gradient(stage)
  probs = jax.nn.sigmoid(stage.class_logits)
  alpha, gamma = FOCAL["alpha"], FOCAL["gamma"]
  positive = -jnp.log(probs + 1e-12) * alpha * (1 - probs) ** gamma
  negative = -jnp.log(1 - probs + 1e-12) * (1 - alpha) * probs**gamma
  category = jnp.take_along_axis(
    (positive - negative).swapaxes(1, 2), batch.labels[..., None], axis=1
  )
  boxes = batch.boxes_xyxy[:, :, None]
  found = stage.boxes_xyxy[:, None]
  distance = jnp.abs((found - boxes) / _scale(batch)[:, None])
  return (
    settings.category_weight * category
    + settings.box_weight * jnp.sum(distance, axis=-1)
    - settings.giou_weight * generalized_iou(found, boxes)
  )


def _first_instances(batch: types.Batch, number: int) -> types.Batch:
  def cut(x):
    return jax.tree.map(lambda y: y[:, :number], x)

  return dataclasses.replace(
    batch,
    masks=cut(batch.masks),
    boxes_xyxy=cut(batch.boxes_xyxy),
    labels=cut(batch.labels),
    valid=cut(batch.valid),
  )


def _scale(batch):
  """Returns (w, h, w, h) of each image. [B, 1, 4] float32."""
  return batch.image_size[:, None, [1, 0, 1, 0]].astype(jnp.float32)


def _take(stage: Stage, query: jax.Array) -> Stage:
  """Returns the proposals of instances. [B, N] each."""
  return jax.tree.map(
    lambda x: jnp.take_along_axis(x, query[..., None], axis=1), stage
  )


def _box_losses(stage, query, batch, valid):
  """Returns the sums over the batch of the losses of classes and boxes."""
  num_images, num_queries, num_classes = stage.class_logits.shape
  rows = jnp.arange(num_images)[:, None]
  # An extra row takes everything that is not an instance.
  place = jnp.where(valid, query, num_queries)
  label = jnp.full((num_images, num_queries + 1), num_classes)
  label = label.at[rows, place].set(batch.labels)[:, :-1]
  targets = jax.nn.one_hot(label, num_classes)
  category = sigmoid_focal_loss(stage.class_logits, targets, **FOCAL)
  category *= batch.image_valid[:, None, None]
  boxes = jnp.take_along_axis(stage.boxes_xyxy, query[..., None], axis=1)
  distance = jnp.abs((boxes - batch.boxes_xyxy) / _scale(batch))
  overlap = generalized_iou(boxes, batch.boxes_xyxy)
  return {
    "category": jnp.sum(category),
    "box": jnp.sum(jnp.where(valid[..., None], distance, 0.0)),
    "giou": jnp.sum(jnp.where(valid, 1 - overlap, 0.0)),
  }


def _mask_losses(network, pyramid, matched, batch, rows, train):
  """Returns the sums of the dice losses of the stages with masks. [S]."""
  image, instance, counts = rows
  matched = jax.tree.map(lambda x: x[-len(network.masks) :], matched)
  logits = _find_masks(network, pyramid, matched, batch.labels, rows, train)
  # Targets end with the input; predicted boxes need not.
  height, width = batch.image.shape[1:3]
  limits = jnp.array([width, height, width, height], jnp.float32)
  boxes = jax.lax.stop_gradient(matched.boxes_xyxy[:, image, instance])
  boxes = jnp.clip(boxes, 0, limits)
  probs = jax.nn.sigmoid(logits)
  cut = functools.partial(mask_targets, size=2 * MASK_SIZE, rule=TARGETS)
  targets = jax.vmap(cut, in_axes=(None, None, 0))(
    batch.masks.unpack()[image, instance],
    batch.masks.rectangles(batch.boxes_xyxy)[image, instance],
    boxes,
  )
  losses = dice_loss(probs, targets, epsilon=DICE_EPSILON)
  return jnp.sum(jnp.where(counts, losses, 0.0), axis=1)


def _find_masks(network, pyramid, matched, labels, rows, train):
  """Returns the logits of matched proposals' masks, of their own class.

  [S, R, s, s] float32; S stages, each with its own head.
  """
  image, instance, counts = rows
  boxes = jnp.concatenate(matched.boxes_xyxy, axis=1)  # [B, S * N, 4]
  is_trained = jnp.zeros(labels.shape, bool).at[image, instance].set(counts)
  pooled = pool_boxes(
    pyramid,
    boxes,
    jnp.tile(is_trained, (1, len(network.masks))),
    size=MASK_SIZE,
    pooling=network.pooling,
  )
  label = labels[image, instance, None, None, None]
  masks = []
  for head, query, features in zip(
    network.masks,
    matched.mask_queries,
    jnp.split(pooled, len(network.masks), axis=1),
    strict=True,
  ):
    query, features = (x[image, instance][None] for x in (query, features))
    (logits,) = head(query, features, counts[None], train=train)
    masks.append(jnp.take_along_axis(logits, label, axis=-1)[..., 0])
  return jnp.stack(masks)
