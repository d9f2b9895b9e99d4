"""The loss of region-based networks: proposals, then stages one after another.

A network without a cascade has one stage. https://arxiv.org/abs/1506.01497,
https://arxiv.org/abs/1712.00726, https://arxiv.org/abs/1901.07518.

Counts run over the batch on all devices, so that the mean of the per-device
losses is the loss of the global batch.

Shape letters: B images, N instances, A anchors, S slots of regions, K classes.
"""

import dataclasses
import functools
from collections.abc import Callable

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
from solo_jax.methods.regions.box_coding import (
  area,
  clip,
  encode,
  pairwise_iou,
)
from solo_jax.methods.regions.matching import Matching, match
from solo_jax.methods.regions.network import (
  Features,
  ProposalOutputs,
  RegionNetwork,
)
from solo_jax.methods.regions.proposals import WEIGHTS
from solo_jax.methods.regions.sampling import (
  Regions,
  Sampling,
  match_regions,
  sample,
  sample_regions,
  take_instances,
)
from solo_jax.nn.draws import row_keys

DIVISORS = ("sampled", "slots")
NEXT_REGIONS = ("sampled", "all")
MASK_REGIONS = ("sampled", "refined", "predicted")


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageLoss:
  """How the stages are trained.

  Attributes:
    matchings: When a region belongs to an instance, for each stage.
    sampling: How many regions of an image train.
    weights: Weights of the losses of each stage.
    beta: Beta of the smooth L1 loss of boxes; 0: L1.
    next_regions: Which of the boxes refined by a stage train the next one:
      'sampled': as in the first, with the boxes of the instances, without those
      that they gave before (mmdet). 'all': every one that has an area
      (detectron2).
    mask_regions: Regions that train masks: 'sampled': the positive regions of
      the box head. 'refined': regions sampled again from its boxes (HTC).
      'predicted': its boxes for the true classes, not clipped (detectron2's
      PointRend).
  """

  matchings: tuple[Matching, ...]
  sampling: Sampling
  weights: tuple[float, ...]
  beta: float
  next_regions: str
  mask_regions: str

  def __post_init__(self):
    for name, values in (
      ("next_regions", NEXT_REGIONS),
      ("mask_regions", MASK_REGIONS),
    ):
      if getattr(self, name) not in values:
        raise ValueError(
          f"{name} must be in {values}, got {getattr(self, name)!r}."
        )


MaskLoss = Callable[[int, Features, Regions], dict[str, jax.Array]]


def region_loss(
  network: RegionNetwork,
  features: Features,
  batch: types.Batch,
  *,
  proposals: ProposalLoss,
  stages: StageLoss,
  mask_loss: MaskLoss,
  axis_name: str | None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the loss of a batch.

  Args:
    network: Bound, with a random stream named 'draws'.
    features: Features of the batch, by this network.
    batch: Instances; images with `image_valid` False are ignored.
    proposals: How the proposal head is trained.
    stages: How the stages are trained.
    mask_loss: (stage, features, regions) -> losses of masks by name, not yet
      weighted; regions are the positive ones of `stages.mask_regions`.
    axis_name: Mapped device axis of the counts.

  Returns:
    The sum of the terms, [] float32, and the terms, weighted; those of stages
    after the first have their number in front. `instances_dropped` and
    `masks_dropped` are counts: 'all' may have more positive regions, and in
    other places, than `sampling` reserves.
  """
  batch = dataclasses.replace(
    batch, valid=batch.valid & batch.image_valid[:, None]
  )
  keys = row_keys(network.make_rng("draws"), batch.row)

  def keys_of(purpose):
    return jax.vmap(lambda key: jax.random.fold_in(key, purpose))(keys)

  outputs = network.propose(features)
  objects, boxes = proposal_loss(
    outputs, batch, keys_of(0), proposals, axis_name
  )
  terms = dict(proposal_category_loss=objects, proposal_box_loss=boxes)
  found = network.select(outputs, batch.image_size, train=True)
  candidates = found.boxes, found.valid & batch.image_valid[:, None]
  regions, masks_dropped = None, jnp.zeros((), jnp.int32)
  for stage, matching in enumerate(stages.matchings):
    if regions is None or stages.next_regions == "sampled":
      regions = _draw(keys_of(2 * stage + 1), candidates, batch, stages, stage)
    else:
      regions = _relabel(candidates, batch, matching)
    stage_terms, refined, candidates = _train_stage(
      network, features, batch, regions, stages, stage, axis_name
    )
    if stages.mask_regions == "refined":
      mask_regions = _draw(
        keys_of(2 * stage + 2), candidates, batch, stages, stage
      )
    elif stages.mask_regions == "predicted":
      mask_regions = dataclasses.replace(regions, boxes=refined)
    else:
      mask_regions = regions
    most = min(stages.sampling.max_positives, mask_regions.boxes.shape[1])
    positives = jax.tree.map(lambda x, most=most: x[:, :most], mask_regions)
    mask_terms = mask_loss(stage, features, positives)
    if mask_terms:
      masks_dropped += jnp.sum(mask_regions.is_positive[:, most:])
    stage_terms |= mask_terms
    prefix = f"stage{stage}_" if stage else ""
    for name, value in stage_terms.items():
      terms[prefix + name] = stages.weights[stage] * value
  total = sum(terms.values())
  terms["instances_dropped"] = jnp.sum(batch.num_dropped)
  terms["masks_dropped"] = masks_dropped
  return total, terms


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


def _train_stage(network, features, batch, regions, stages, stage, axis_name):
  """Runs a box head on its regions.

  Returns:
    terms: Losses of classes and boxes.
    refined: The refined boxes of the regions, not clipped. [B, S, 4].
    candidates: Boxes that the next stage chooses from, and their validity.
  """
  logits, codes = network.box_stage(
    stage, features, regions.boxes, regions.valid, train=True
  )
  classes, boxes = box_loss(
    logits,
    codes,
    regions,
    batch,
    weights=network.stage_weights[stage],
    beta=stages.beta,
    axis_name=axis_name,
  )
  own = codes_of_labels(codes, take_instances(batch.labels, regions))
  refined = network.decode_boxes(stage, own, regions.boxes)
  clipped = clip(refined, batch.image_size)
  valid = regions.valid
  if stages.next_regions == "sampled":
    valid &= ~regions.is_instance
  else:
    valid &= area(clipped) > 0
  return dict(category_loss=classes, box_loss=boxes), refined, (clipped, valid)


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


def _draw(keys, candidates, batch, stages, stage):
  return jax.vmap(
    lambda key, *x: sample_regions(
      key, x[:2], x[2:], stages.matchings[stage], stages.sampling
    )
  )(keys, *candidates, batch.boxes_xyxy, batch.valid)


def _relabel(candidates, batch, matching):
  """Labels all candidates; they keep their slots."""
  boxes, valid = candidates
  instance, kind = jax.vmap(
    lambda boxes, valid, *x: match_regions(boxes, valid, x, matching)
  )(boxes, valid, batch.boxes_xyxy, batch.valid)
  return Regions(
    boxes=boxes,
    valid=valid,
    is_positive=kind == 1,
    instance=instance,
    is_instance=jnp.zeros(valid.shape, bool),
  )
