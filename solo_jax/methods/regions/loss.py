"""The losses that all region-based networks share: proposals, classes, boxes.

Counts run over the batch on all devices, so that the mean of the per-device
losses is the loss of the global batch.

Shape letters: B images, N instances, A anchors, S slots of regions, K classes.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.losses.cross_entropy import (
  sigmoid_cross_entropy,
  softmax_cross_entropy,
)
from solo_jax.losses.smooth_l1 import smooth_l1_loss
from solo_jax.methods.device_counts import count_everywhere
from solo_jax.methods.regions.anchors import find_trained
from solo_jax.methods.regions.box_coding import area, encode, pairwise_iou
from solo_jax.methods.regions.matching import Matching, match
from solo_jax.methods.regions.network import ProposalOutputs
from solo_jax.methods.regions.proposals import WEIGHTS
from solo_jax.methods.regions.sampling import Regions, Sampling, sample

DIVISORS = ("sampled", "slots")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProposalLoss:
  """How the proposal head is trained.

  Attributes:
    trained: Which anchors train, see `anchors.find_trained`.
    matching: When an anchor belongs to an instance.
    sampling: How many anchors of an image train.
    beta: Beta of the smooth L1 loss of boxes; 0: L1.
    divisor: Sums are divided by the 'sampled' anchors of the batch
      (torchvision, mmdet), or by the 'slots': `sampling.number` per image
      (detectron2).
  """

  trained: str
  matching: Matching
  sampling: Sampling
  beta: float
  divisor: str

  def __post_init__(self):
    if self.divisor not in DIVISORS:
      raise ValueError(f"divisor must be in {DIVISORS}, got {self.divisor!r}.")


def proposal_loss(
  outputs: ProposalOutputs,
  batch: types.Batch,
  keys: jax.Array,
  settings: ProposalLoss,
  axis_name: str | None,
) -> tuple[jax.Array, jax.Array]:
  """Returns the losses of the proposal head.

  Args:
    outputs: Outputs of the proposal head.
    batch: Instances; images with `image_valid` False are ignored.
    keys: Keys of each image. [B] keys.
    settings: How the head is trained.
    axis_name: Mapped device axis of the counts.

  Returns:
    Of objects and of boxes. [] float32 each.
  """
  anchors = jnp.concatenate(outputs.anchors)

  def draw(key, boxes, valid, image_size, image_valid):
    is_trained = find_trained(
      outputs.anchors, outputs.map_sizes, image_size, settings.trained
    )
    iou = jnp.where(is_trained, pairwise_iou(boxes, anchors), -1.0)
    valid &= area(boxes) > 0
    instance, kind = match(iou, valid, settings.matching)
    kind = jnp.where(is_trained & image_valid, kind, -1)
    positive, background = sample(key, kind, settings.sampling)
    targets = encode(boxes[instance], anchors, WEIGHTS)
    return positive, background, targets

  positive, background, targets = jax.vmap(draw)(
    keys, batch.boxes_xyxy, batch.valid, batch.image_size, batch.image_valid
  )
  number = jnp.sum(positive) + jnp.sum(background)
  if settings.divisor == "slots":
    number = settings.sampling.number * jnp.sum(batch.image_valid)
  number = count_everywhere(number, axis_name)
  return anchor_losses(
    jnp.concatenate(outputs.logits, axis=1),
    jnp.concatenate(outputs.codes, axis=1),
    (positive, background, targets),
    beta=settings.beta,
    number=number,
  )


def anchor_losses(
  logits: jax.Array,
  codes: jax.Array,
  drawn: tuple[jax.Array, jax.Array, jax.Array],
  *,
  beta: float,
  number: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Returns the summed losses of the sampled anchors.

  Args:
    logits: [B, A] float32.
    codes: [B, A, 4] float32.
    drawn: Which are positive, which background, [B, A] bool each, and the
      target codes of the positive ones, [B, A, 4] float32.
    beta: Beta of the smooth L1 loss; 0: L1.
    number: What both sums are divided by. [] float32.

  Returns:
    The losses of objects and of boxes. [] float32 each.
  """
  positive, background, targets = drawn
  objects = sigmoid_cross_entropy(logits, positive)
  boxes = smooth_l1_loss(codes, targets, beta=beta)
  objects = jnp.sum(objects, where=positive | background)
  boxes = jnp.sum(boxes, where=positive[..., None])
  return objects / number, boxes / number


def box_loss(
  logits: jax.Array,
  codes: jax.Array,
  regions: Regions,
  batch: types.Batch,
  *,
  weights: tuple[float, ...],
  beta: float,
  axis_name: str | None,
) -> tuple[jax.Array, jax.Array]:
  """Returns the losses of a box head.

  Args:
    logits: Background last. [B, S, K + 1] float32.
    codes: [B, S, K or 1, 4] float32.
    regions: Inputs of the head. [B, S] each.
    batch: Their instances.
    weights: Weights of the codes.
    beta: Beta of the smooth L1 loss of boxes; 0: L1.
    axis_name: Mapped device axis of the counts.

  Returns:
    The losses of classes and of boxes, both divided by the number of valid
    regions. [] float32 each.
  """
  num_classes = logits.shape[-1] - 1
  take = functools.partial(take_instances, regions=regions)
  labels = take(batch.labels)
  classes = softmax_cross_entropy(
    logits, jnp.where(regions.is_positive, labels, num_classes)
  )
  own = codes_of_labels(codes, labels)
  targets = encode(take(batch.boxes_xyxy), regions.boxes, weights)
  boxes = smooth_l1_loss(own, targets, beta=beta)
  number = count_everywhere(jnp.sum(regions.valid), axis_name)
  classes = jnp.sum(classes, where=regions.valid)
  boxes = jnp.sum(boxes, where=regions.is_positive[..., None])
  return classes / number, boxes / number


def codes_of_labels(codes: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the box codes of each region's class.

  Args:
    codes: Of each class, or one for all classes. [B, S, K or 1, 4] float32.
    labels: [B, S] int32.

  Returns:
    [B, S, 4] float32.
  """
  column = jnp.minimum(labels, codes.shape[2] - 1)
  return jnp.take_along_axis(codes, column[..., None, None], axis=2)[:, :, 0]


def take_instances(values: jax.Array, regions: Regions) -> jax.Array:
  """Returns the values of each region's instance.

  Args:
    values: [B, N, ...].
    regions: [B, S] each.

  Returns:
    [B, S, ...].
  """
  return jax.vmap(lambda x, i: x[i])(values, regions.instance)
