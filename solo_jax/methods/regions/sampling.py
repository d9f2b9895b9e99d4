"""Random choice of training boxes, per image.

Shape letters: A candidates per image, S slots, N instances, P proposals.
"""

import dataclasses

import jax
import jax.numpy as jnp

from solo_jax.methods.regions.box_coding import area, pairwise_iou
from solo_jax.methods.regions.matching import Matching, match


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
  """Number of training boxes per image.

  Attributes:
    number: Boxes per image, positive and background.
    positive_share: Largest share of `number` that is positive.
  """

  number: int
  positive_share: float

  @property
  def max_positives(self) -> int:
    """Returns the largest number of positive boxes per image."""
    return int(self.number * self.positive_share)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Regions:
  """Training boxes with their targets. Positive ones come first.

  Attributes:
    boxes: [S, 4] float32.
    valid: Whether a slot is taken. [S] bool.
    is_positive: [S] bool.
    instance: Index of the instance; meaningless for background. [S] int32.
    is_instance: Whether the box is that of an instance itself. [S] bool.
  """

  boxes: jax.Array
  valid: jax.Array
  is_positive: jax.Array
  instance: jax.Array
  is_instance: jax.Array


def sample(
  key: jax.Array, kind: jax.Array, sampling: Sampling
) -> tuple[jax.Array, jax.Array]:
  """Returns a sample without replacement, with a bounded share of positives.

  Args:
    key: Key of the image.
    kind: 1 positive, 0 background, -1 never. [A] int32.
    sampling: Numbers.

  Returns:
    positive: Those drawn. [A] bool.
    background: Those drawn. [A] bool.
  """
  draws = jax.random.uniform(key, kind.shape)

  def choose(candidates, most, limit):
    most = min(most, len(kind))
    values, order = jax.lax.top_k(jnp.where(candidates, draws, -1.0), most)
    is_chosen = (values >= 0) & (jnp.arange(most) < limit)
    return jnp.zeros(kind.shape, bool).at[order].set(is_chosen)

  positive = choose(kind == 1, sampling.max_positives, sampling.max_positives)
  left = sampling.number - jnp.sum(positive)
  return positive, choose(kind == 0, sampling.number, left)


def sample_regions(
  key: jax.Array,
  proposals: tuple[jax.Array, jax.Array],
  instances: tuple[jax.Array, jax.Array],
  matching: Matching,
  sampling: Sampling,
) -> Regions:
  """Returns the sampled boxes of one image that train its heads.

  The boxes of the instances are proposals too, each of its own instance, and
  come first. Instances without area are ignored.

  Args:
    key: Key of the image.
    proposals: Boxes [P, 4] float32 and whether they are valid, [P] bool.
    instances: Boxes [N, 4] float32 and whether they are valid, [N] bool.
    matching: When a proposal belongs to an instance.
    sampling: Numbers.

  Returns:
    S = `sampling.number`, or N + P where that is less.
  """
  boxes, valid = proposals
  instance_boxes, instance_valid = instances
  instance_valid &= area(instance_boxes) > 0
  instance, kind = match_regions(boxes, valid, instances, matching)
  num_instances = len(instance_boxes)
  own = jnp.arange(num_instances, dtype=jnp.int32)
  boxes = jnp.concatenate([instance_boxes, boxes])
  instance = jnp.concatenate([own, instance])
  kind = jnp.concatenate([jnp.where(instance_valid, 1, -1), kind])
  positive, background = sample(key, kind, sampling)
  # Those drawn come first, positives before the rest, by index.
  rank = jnp.where(positive, 0, jnp.where(background, 1, 2))
  num_slots = min(sampling.number, len(kind))
  slots = jnp.argsort(rank, stable=True)[:num_slots]
  return Regions(
    boxes=boxes[slots],
    valid=rank[slots] < 2,
    is_positive=rank[slots] == 0,
    instance=instance[slots],
    is_instance=(slots < num_instances) & (rank[slots] < 2),
  )


def match_regions(
  boxes: jax.Array,
  valid: jax.Array,
  instances: tuple[jax.Array, jax.Array],
  matching: Matching,
) -> tuple[jax.Array, jax.Array]:
  """Returns the matches of boxes of one image; invalid instances are ignored.

  Args:
    boxes: [P, 4] float32.
    valid: [P] bool.
    instances: See `sample_regions`.
    matching: When a box belongs to an instance.

  Returns:
    instance: [P] int32.
    kind: [P] int32.
  """
  instance_boxes, instance_valid = instances
  instance_valid &= area(instance_boxes) > 0
  iou = jnp.where(valid, pairwise_iou(instance_boxes, boxes), -1.0)
  instance, kind = match(iou, instance_valid, matching)
  return instance, jnp.where(valid, kind, -1)


def take_instances(values: jax.Array, regions: Regions) -> jax.Array:
  """Returns the values of each region's instance.

  Args:
    values: [B, N, ...].
    regions: [B, S] each.

  Returns:
    [B, S, ...].
  """
  return jax.vmap(lambda x, i: x[i])(values, regions.instance)
