"""The loss of PointRend.

Shape letters: B images, R regions per image, P points.
"""

import dataclasses

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.losses.cross_entropy import sigmoid_cross_entropy
from solo_jax.methods.mask_rcnn.loss import (
  mean_of_positives,
  targets_of_regions,
)
from solo_jax.methods.point_rend.heads import COARSE_SIZE
from solo_jax.methods.point_rend.network import (
  PointRend,
  sample_masks,
  take_class,
)
from solo_jax.methods.point_rend.subdivision import choose_points
from solo_jax.methods.regions.loss import ProposalLoss, StageLoss, region_loss
from solo_jax.methods.regions.mask_targets import MaskTargets, point_targets
from solo_jax.methods.regions.network import Features
from solo_jax.methods.regions.points import points_in_boxes
from solo_jax.methods.regions.sampling import Regions, take_instances
from solo_jax.nn.draws import row_keys


@dataclasses.dataclass(frozen=True, kw_only=True)
class Points:
  """How the points of masks are chosen in training.

  Attributes:
    number: P.
    candidates: Points drawn for each that is kept.
    uncertain_share: Share of the points that are the least certain candidates;
      the others are drawn uniformly.
  """

  number: int
  candidates: int
  uncertain_share: float


def point_rend_loss(
  network: PointRend,
  batch: types.Batch,
  *,
  proposals: ProposalLoss,
  stages: StageLoss,
  masks: MaskTargets,
  points: Points,
  axis_name: str | None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the loss of a batch, as `Method.loss`.

  Args:
    network: Bound, with a random stream named 'draws'.
    batch: See `mask_rcnn_loss`.
    proposals: How the proposal head is trained.
    stages: How the box head is trained.
    masks: How the targets of coarse masks are made; those of points are read
      from the masks as they are.
    points: How points are chosen.
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
    points=points,
    axis_name=axis_name,
  )


def loss_of_features(
  network: PointRend,
  features: Features,
  batch: types.Batch,
  *,
  proposals: ProposalLoss,
  stages: StageLoss,
  masks: MaskTargets,
  points: Points,
  axis_name: str | None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the loss of a batch whose features are computed; see above."""

  def mask_loss(_, features, regions):
    labels = take_instances(batch.labels, regions)
    coarse = network.coarse_logits(features, regions.boxes)
    targets = targets_of_regions(batch, regions, COARSE_SIZE, masks)
    coarse_loss = sigmoid_cross_entropy(take_class(coarse, labels), targets)
    keys = row_keys(network.make_rng("draws"), batch.row)
    candidates, random = draw_points(keys, labels.shape[1], points)
    chosen = _choose(coarse, labels, candidates, random, points.number)
    logits = network.point_logits(features, regions.boxes, coarse, chosen)
    point_loss = sigmoid_cross_entropy(
      take_class(logits, labels), _targets_of_points(batch, regions, chosen)
    )
    return dict(
      mask_loss=mean_of_positives(coarse_loss, regions, axis_name),
      point_loss=mean_of_positives(point_loss, regions, axis_name),
    )

  return region_loss(
    network,
    features,
    batch,
    proposals=proposals,
    stages=stages,
    mask_loss=mask_loss,
    axis_name=axis_name,
  )


def draw_points(
  keys: jax.Array, num_regions: int, points: Points
) -> tuple[jax.Array, jax.Array]:
  """Returns points drawn uniformly in the boxes.

  Args:
    keys: Keys of each image. [B] keys.
    num_regions: R.
    points: How points are chosen.

  Returns:
    Candidates, [B, R, candidates * P, 2], and points that are always kept, [B,
    R, rest of P, 2] float32.
  """
  num_random = points.number - int(points.uncertain_share * points.number)
  num_candidates = points.candidates * points.number
  drawn = jax.vmap(
    lambda key: jax.random.uniform(
      key, (num_regions, num_candidates + num_random, 2)
    )
  )(keys)
  return drawn[:, :, :num_candidates], drawn[:, :, num_candidates:]


def _choose(coarse, labels, candidates, random, num_points):
  """Chooses points where the coarse masks of the true classes are uncertain."""
  coarse, candidates, random = jax.lax.stop_gradient(
    (coarse, candidates, random)
  )
  own = take_class(coarse, labels)[..., None]
  logits = sample_masks(own, candidates)[..., 0]
  return jax.vmap(choose_points, (0, 0, 0, None))(
    candidates, -jnp.abs(logits), random, num_points
  )


def _targets_of_points(
  batch: types.Batch, regions: Regions, points: jax.Array
) -> jax.Array:
  """Returns masks at points of regions. [B, R, P] float32."""

  def of_image(masks, frames, regions, points):
    instance = regions.instance
    places = points_in_boxes(regions.boxes, points)
    return point_targets(masks.unpack(instance), frames[instance], places)

  return jax.vmap(of_image)(
    batch.masks, batch.masks.rectangles(batch.boxes_xyxy), regions, points
  )
