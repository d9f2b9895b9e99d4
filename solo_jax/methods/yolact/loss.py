"""The losses of YOLACT and YOLACT++ (https://arxiv.org/abs/1904.02689, 3.4).

Shape letters: B images, N instances (padded), A priors of all levels, K
classes, h, w prototype resolution, k prototypes, P positives whose masks are
trained.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.losses.cross_entropy import (
  sigmoid_cross_entropy,
  softmax_cross_entropy,
)
from solo_jax.losses.instance_sum import instance_sum
from solo_jax.losses.smooth_l1 import smooth_l1_loss
from solo_jax.methods.device_counts import count_everywhere
from solo_jax.methods.regions.box_coding import area, encode, pairwise_iou
from solo_jax.methods.yolact.detections import CODE_WEIGHTS
from solo_jax.methods.yolact.network import Predictions
from solo_jax.methods.yolact.prototypes import (
  crop_weights,
  resize_masks,
)
from solo_jax.methods.yolact.targets import assign, leave_crowds_out
from solo_jax.nn.draws import row_keys
from solo_jax.nn.kernel_maps import apply_kernels

MINED = ("positives", "all")
SEMANTIC_LABELS = ("own", "previous")
NEGATIVES = 3  # per positive
MIN_MASK_AREA = 25  # prototype pixels; smaller masks have no score to learn
LOG_FLOOR = -100.0  # of a probability's logarithm


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossSettings:
  """How the losses are computed.

  Attributes:
    assignment: See `targets.assign`.
    empty_image: Negatives of an image without positives: 'positives': three
      per positive, so none (the authors' code); 'all': all (mmdetection).
    least_count: Least amount that each image adds to the divisor of classes and
      boxes: 0 (the authors' code) or 1 (mmdetection).
    max_masks: P; if there are more positives, P are drawn.
    semantic_labels: 'own', or 'previous': each class is trained as the previous
      one (by mistake in mmdetection, whose weights depend on it).
    semantic_on_empty: Whether images without instances train the semantic
      segmentation (the authors' code) or not (mmdetection).
    category_weight: Weight of the classes.
    box_weight: Weight of the boxes.
    mask_weight: Weight of the masks.
    semantic_weight: Weight of the semantic segmentation.
    mask_score_weight: Weight of the mask scores; 0 without them.
  """

  assignment: str
  empty_image: str
  least_count: int
  max_masks: int
  semantic_labels: str
  semantic_on_empty: bool
  category_weight: float
  box_weight: float
  mask_weight: float
  semantic_weight: float
  mask_score_weight: float

  def __post_init__(self):
    if self.empty_image not in MINED:
      raise ValueError(f"empty_image must be in {MINED}")
    if self.semantic_labels not in SEMANTIC_LABELS:
      raise ValueError(f"semantic_labels must be in {SEMANTIC_LABELS}")


def yolact_loss(
  network: nn.Module,
  batch: types.Batch,
  *,
  settings: LossSettings,
  axis_name: str | None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the loss of a bound network; see `Method.loss`."""
  predictions = network.predict(
    batch.image, batch.image_size, train=True, row=batch.row
  )
  keys = row_keys(network.make_rng("draws"), batch.row)
  score_masks = network.score_masks if settings.mask_score_weight else None
  return prediction_loss(
    predictions,
    batch,
    keys,
    settings=settings,
    score_masks=score_masks,
    axis_name=axis_name,
  )


def prediction_loss(
  predictions: Predictions,
  batch: types.Batch,
  keys: jax.Array,
  *,
  settings: LossSettings,
  score_masks,
  axis_name: str | None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the loss of the heads' predictions.

  Args:
    predictions: Predictions of the heads.
    batch: The batch; masks at any resolution, which is resized to that of the
      prototypes.
    keys: A random key for each image. [B].
    settings: The settings.
    score_masks: `YOLACT.score_masks`, None if masks are not scored.
    axis_name: Mapped device axis.

  Returns:
    The weighted sum, [] float32, and its terms; num_positives is a mean per
    image, instances_dropped and crowds_dropped are counts. A batch without
    instances has a loss of 0, apart from the semantic segmentation's and, with
    `empty_image='all'`, the classes'. Instances without area train the semantic
    segmentation only.
  """
  valid = batch.valid & batch.image_valid[:, None]
  valid &= area(batch.boxes_xyxy) > 0
  iou = jax.vmap(lambda boxes: pairwise_iou(boxes, predictions.priors))(
    batch.boxes_xyxy
  )
  instance, kind = jax.vmap(
    functools.partial(assign, rule=settings.assignment)
  )(iou, valid)
  if batch.crowd_boxes_xyxy is not None:
    kind = jax.vmap(leave_crowds_out, in_axes=(0, None, 0))(
      kind, predictions.priors, batch.crowd_boxes_xyxy
    )
  # Priors of an image to ignore are left out.
  kind = jnp.where(batch.image_valid[:, None], kind, -1)
  positive = kind == 1
  num_positives = jnp.sum(positive, axis=1)
  counted = jnp.maximum(num_positives, settings.least_count)
  counted = jnp.sum(jnp.where(batch.image_valid, counted, 0))
  count = count_everywhere(counted, axis_name)
  mask_count = count_everywhere(jnp.sum(num_positives), axis_name)
  masks = resize_masks(batch.masks, predictions.prototypes.shape[1:3])

  category = _category_loss(predictions, batch, instance, kind, settings)
  box = _box_loss(predictions, batch, instance, positive)
  mask, mask_score = _mask_losses(
    predictions,
    dataclasses.replace(batch, masks=masks),
    (instance, positive),
    keys,
    max_masks=settings.max_masks,
    score_masks=score_masks,
  )
  num_images = count_everywhere(jnp.sum(batch.image_valid), axis_name)
  semantic = _semantic_loss(predictions, batch, settings)
  terms = {
    "category_loss": settings.category_weight * category / count,
    "box_loss": settings.box_weight * box / count,
    "mask_loss": settings.mask_weight * mask / mask_count,
    "semantic_loss": settings.semantic_weight * semantic / num_images,
  }
  if score_masks is not None:
    terms["mask_score_loss"] = (
      settings.mask_score_weight * mask_score / mask_count
    )
  loss = sum(terms.values())
  terms["num_positives"] = jnp.mean(num_positives, dtype=jnp.float32)
  terms["instances_dropped"] = jnp.sum(batch.num_dropped)
  if batch.num_crowds_dropped is not None:
    terms["crowds_dropped"] = jnp.sum(batch.num_crowds_dropped)
  return loss, terms


def _category_loss(predictions, batch, instance, kind, settings):
  """Returns the cross-entropy of positives and of the hardest negatives.

  A negative is hard if its background has a low probability. By rank, ties by
  index, up to three per positive are used.
  """
  labels = jnp.take_along_axis(batch.labels, instance, axis=1)
  targets = jnp.where(kind == 1, labels + 1, 0)
  values = softmax_cross_entropy(predictions.class_logits, targets)
  hardness = jax.lax.stop_gradient(jnp.where(kind == 0, values, -1.0))
  order = jnp.argsort(-hardness, axis=1, stable=True)
  rank = jnp.argsort(order, axis=1)
  num_positives = jnp.sum(kind == 1, axis=1)
  wanted = NEGATIVES * num_positives
  if settings.empty_image == "all":
    wanted = jnp.where(num_positives > 0, wanted, kind.shape[1])
  mined = (kind == 0) & (rank < wanted[:, None])
  return jnp.sum(jnp.where((kind == 1) | mined, values, 0.0))


def _box_loss(predictions, batch, instance, positive):
  boxes = jnp.take_along_axis(batch.boxes_xyxy, instance[..., None], axis=1)
  targets = encode(boxes, predictions.priors, CODE_WEIGHTS)
  values = smooth_l1_loss(predictions.box_codes, targets, beta=1.0)
  return jnp.sum(jnp.where(positive[..., None], values, 0.0))


def _mask_losses(predictions, batch, assigned, keys, *, max_masks, score_masks):
  """Returns the sums of the losses of masks and of mask scores.

  If an image has more than `max_masks` positives, some are drawn, and the sum
  is scaled to all of them.
  """
  instance, positive = assigned
  draw = jax.vmap(lambda key: jax.random.uniform(key, positive.shape[1:]))(keys)
  found, index = jax.lax.top_k(
    jnp.where(positive, draw, -1.0), min(max_masks, positive.shape[1])
  )
  chosen = found >= 0
  instance = jnp.take_along_axis(instance, index, axis=1)
  coefficients = jnp.take_along_axis(
    predictions.coefficients, index[..., None], axis=1
  )
  boxes = jnp.take_along_axis(batch.boxes_xyxy, instance[..., None], axis=1)
  padded_size = batch.image.shape[1:3]
  size = predictions.prototypes.shape[1:3]

  def chunk_loss(prototypes, rows, masks):
    coefficients, boxes = rows
    values = _mask_cross_entropy(
      apply_kernels(coefficients, prototypes),
      masks.unpack(),
      crop_weights(boxes, size, padded_size),
    )
    width, height = (
      jnp.maximum(boxes[:, i + 2] - boxes[:, i], 1e-6)
      * size[1 - i]
      / padded_size[1 - i]
      for i in (0, 1)
    )
    loss = jnp.sum(values, axis=(1, 2)) / width / height
    return loss, loss

  sums, _ = instance_sum(
    chunk_loss,
    predictions.prototypes,
    (coefficients, jax.lax.stop_gradient(boxes)),
    batch.masks,
    instance,
    chosen,
  )
  num_chosen = jnp.maximum(jnp.sum(chosen, axis=1), 1)
  scale = jnp.maximum(jnp.sum(positive, axis=1) / num_chosen, 1.0)
  mask = jnp.sum(sums * scale)
  if score_masks is None:
    return mask, None
  return mask, _mask_score_loss(
    predictions, batch, (instance, chosen, coefficients, boxes), score_masks
  )


def _mask_cross_entropy(logits, targets, inside):
  """Returns the binary cross-entropy of cropped masks, un-reduced.

  Outside the crop the probability is 0 and has no gradient; a pixel of the
  instance there costs 100, the floor of the published code's logarithm.
  """
  values = jnp.minimum(sigmoid_cross_entropy(logits, targets), -LOG_FLOOR)
  return jnp.where(inside, values, -LOG_FLOOR * targets)


def _mask_score_loss(predictions, batch, rows, score_masks):
  """Returns the loss of predicted overlaps of masks with their instances."""
  instance, chosen, coefficients, boxes = rows
  size, padded_size = predictions.prototypes.shape[1:3], batch.image.shape[1:3]
  logits = jax.vmap(apply_kernels)(coefficients, predictions.prototypes)
  inside = jax.vmap(lambda x: crop_weights(x, size, padded_size))(boxes)
  probs = jnp.where(inside, jax.nn.sigmoid(logits), 0.0)
  truth = jax.vmap(lambda masks, rows: masks.unpack(rows))(
    batch.masks, instance
  )
  hard = (probs > 0.5).astype(jnp.float32)
  shared = jnp.sum(hard * truth, axis=(2, 3))
  area = jnp.sum(truth, axis=(2, 3))
  union = jnp.sum(hard, axis=(2, 3)) + area - shared
  target = shared / jnp.maximum(union, 1.0)
  found = score_masks(probs.reshape(-1, *size)).reshape(*instance.shape, -1)
  labels = jnp.take_along_axis(batch.labels, instance, axis=1)
  found = jnp.take_along_axis(found, labels[..., None], axis=-1)[..., 0]
  values = smooth_l1_loss(found, target, beta=1.0)
  return jnp.sum(jnp.where(chosen & (area > MIN_MASK_AREA), values, 0.0))


def _semantic_loss(predictions, batch, settings):
  """Returns the cross-entropy of each pixel and class, summed over images."""
  logits = predictions.semantic_logits
  valid = batch.valid & batch.image_valid[:, None]
  _, height, width, num_classes = logits.shape
  masks = resize_masks(batch.masks, (height, width)).unpack()
  shift = 0 if settings.semantic_labels == "own" else 1
  of_class = jax.nn.one_hot((batch.labels - shift) % num_classes, num_classes)
  of_class *= valid[..., None]
  truth = jnp.einsum("bnhw,bnk->bhwk", masks, of_class) > 0
  values = sigmoid_cross_entropy(logits, truth.astype(jnp.float32))
  is_trained = batch.image_valid
  if not settings.semantic_on_empty:
    is_trained &= jnp.any(valid, axis=1)
  values = jnp.where(is_trained[:, None, None, None], values, 0.0)
  return jnp.sum(values) / (height * width)
