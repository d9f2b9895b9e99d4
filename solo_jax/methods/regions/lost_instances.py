"""Finds instances that the proposal head cannot learn, and anchor positions.

Shape letters: B images, H, W padded input, N instances, A anchors.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax import types
from solo_jax.methods.interface import Capacity, LostInstances, Way
from solo_jax.methods.regions.anchors import (
  STRIDES,
  Anchors,
  find_trained,
  make_anchors,
)
from solo_jax.methods.regions.box_coding import area, pairwise_iou
from solo_jax.methods.regions.loss import ProposalLoss
from solo_jax.methods.regions.matching import match
from solo_jax.methods.regions.sampling import Sampling

NO_AREA = Way("no area", "its box has no area: neither box nor mask is trained")
NO_ANCHOR = Way(
  "no anchor",
  "no anchor is its own: network.anchor_sizes and anchor_ratios do not suit it",
)
REGIONS = Capacity("regions", ("loss.region_samples",))
DETECTIONS = Capacity("detections", ("decode.max_detections",))
OPACITY = 0.6  # of an instance's colour where it has an anchor


def lost_instances(
  batch: types.Batch,
  *,
  anchors: Anchors,
  proposals: ProposalLoss,
  sampling: Sampling,
) -> LostInstances:
  """Returns instances without area or anchors.

  Args:
    batch: Batch of one image.
    anchors: Anchors of the network.
    proposals: How the proposal head is trained.
    sampling: How the regions that train the heads are sampled.

  Returns:
    The lost instances. An instance uses as many regions as are needed for one
    of them to be positive.
  """
  _, owner = find_owners(batch, anchors, proposals)
  valid, number = batch.valid[0], batch.valid.shape[1]
  has_area = area(batch.boxes_xyxy[0]) > 0
  of_instance = owner[:, None] == jnp.arange(number)
  counts = jnp.sum(of_instance, axis=0, dtype=jnp.int32)
  share = math.ceil(1 / sampling.positive_share)
  one = (valid & has_area).astype(jnp.int32)
  return LostInstances(
    ways=(NO_AREA, NO_ANCHOR),
    is_lost=(valid & ~has_area, valid & has_area & (counts == 0)),
    capacities=(REGIONS, DETECTIONS),
    taken=(share * one, one),
    sizes={"anchors": counts},
  )


def find_owners(
  batch: types.Batch, anchors: Anchors, proposals: ProposalLoss
) -> tuple[tuple[tuple[int, int], ...], jax.Array]:
  """Returns the instance of each anchor.

  Args:
    batch: Batch of one image.
    anchors: See `lost_instances`.
    proposals: See `lost_instances`.

  Returns:
    map_sizes: (h, w) of P2 to P6.
    owner: Instance of each positive anchor, -1 elsewhere. [A] int32.
  """
  padded_size = batch.image.shape[1:3]
  map_sizes = tuple(
    tuple(-(-side // stride) for side in padded_size) for stride in STRIDES
  )
  levels = make_anchors(anchors, map_sizes, padded_size)
  is_trained = find_trained(
    levels, map_sizes, batch.image_size[0], proposals.trained
  )
  boxes, valid = batch.boxes_xyxy[0], batch.valid[0]
  iou = pairwise_iou(boxes, jnp.concatenate(levels))
  iou = jnp.where(is_trained, iou, -1.0)
  instance, kind = match(iou, valid & (area(boxes) > 0), proposals.matching)
  return map_sizes, jnp.where((kind == 1) & is_trained, instance, -1)


def target_views(
  batch: types.Batch,
  colors: jax.Array,
  *,
  anchors: Anchors,
  proposals: ProposalLoss,
) -> dict[str, jax.Array]:
  """Returns a picture of positive anchors in their instances' colours.

  Args:
    batch: Batch of one image.
    colors: RGB of the instances. [N, 3] float32 in [0, 1].
    anchors: See `lost_instances`.
    proposals: See `lost_instances`.

  Returns:
    A picture by its name. [1, H, W, 3] float32 in [0, 1].
  """
  map_sizes, owner = find_owners(batch, anchors, proposals)
  picture = batch.image.astype(jnp.float32) / 255
  height, width = batch.image.shape[1:3]
  ends = np.cumsum([h * w * len(anchors.ratios) for h, w in map_sizes])
  levels = jnp.split(owner, ends[:-1])
  # Coarse levels first, so that fine ones stay visible.
  for stride, size, level in [*zip(STRIDES, map_sizes, levels, strict=True)][
    ::-1
  ]:
    place = jnp.max(level.reshape(*size, -1), axis=-1)
    rows, columns = jnp.arange(height), jnp.arange(width)
    here = place[rows[:, None] // stride, columns // stride][..., None]
    is_dot = _is_dot(rows, stride)[:, None] & _is_dot(columns, stride)
    blended = picture + OPACITY * (colors[here[..., 0]] - picture)
    picture = jnp.where((here >= 0) & is_dot[..., None], blended, picture)
  return {"anchors": picture}


def _is_dot(pixels: jax.Array, stride: int) -> jax.Array:
  """Returns which pixels of an axis are in the first half of a cell."""
  return pixels % stride < max(stride // 2, 1)
