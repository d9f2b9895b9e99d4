"""Trains the boxes and masks of each stage, one after another.

A network without a cascade has one stage. https://arxiv.org/abs/1712.00726,
https://arxiv.org/abs/1901.07518.

Shape letters: B images, N instances, S slots of regions.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.regions.box_coding import area, clip
from solo_jax.methods.regions.loss import (
  ProposalLoss,
  box_loss,
  codes_of_labels,
  proposal_loss,
  take_instances,
)
from solo_jax.methods.regions.matching import Matching
from solo_jax.methods.regions.network import Features, RegionNetwork
from solo_jax.methods.regions.sampling import (
  Regions,
  Sampling,
  match_regions,
  sample_regions,
)
from solo_jax.nn.draws import row_keys

NEXT_REGIONS = ("sampled", "all")
MASK_REGIONS = ("sampled", "refined", "predicted")


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
    after the first have their number in front. `instances_dropped` is a count.
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
  regions = None
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
    stage_terms |= mask_loss(stage, features, positives)
    prefix = f"stage{stage}_" if stage else ""
    for name, value in stage_terms.items():
      terms[prefix + name] = stages.weights[stage] * value
  total = sum(terms.values())
  terms["instances_dropped"] = jnp.sum(batch.num_dropped)
  return total, terms


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
