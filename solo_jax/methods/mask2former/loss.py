"""The loss of Mask2Former (https://arxiv.org/abs/2112.01527).

Shape letters: B images, N instances (padded), Q queries, K classes, P points,
L outputs: one before the first layer and one after each.
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.losses.cross_entropy import softmax_cross_entropy
from solo_jax.losses.instance_sum import instance_sum
from solo_jax.losses.point_mask import (
  pairwise_point_mask_losses,
  point_mask_losses,
)
from solo_jax.methods.device_counts import count_everywhere
from solo_jax.methods.mask2former.network import Outputs
from solo_jax.methods.mask2former.targets import Targets, make_targets
from solo_jax.methods.queries.matching import match
from solo_jax.methods.queries.points import (
  random_points,
  read_mask_points,
  read_points,
  read_shared_points,
  uncertain_points_of_valid,
)
from solo_jax.nn.draws import row_keys


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossSettings:
  """Weights of the losses and of the costs of matching, and points.

  Attributes:
    category_weight: Weight of the class in the loss.
    category_cost: Weight of the class in the costs; published equal to
      `category_weight`.
    mask_weight: Weight of the masks' cross-entropy, in both.
    dice_weight: Weight of the masks' dice loss, in both.
    no_object_weight: Weight of a query without instance in the class loss;
      above 0.
    num_points: See `draw_points`.
    oversample_ratio: See `draw_points`.
    importance_sample_ratio: See `draw_points`.
  """

  category_weight: float
  category_cost: float
  mask_weight: float
  dice_weight: float
  no_object_weight: float
  num_points: int
  oversample_ratio: float
  importance_sample_ratio: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Points:
  """Random points for one output.

  Attributes:
    match: Points for the costs. [B, P, 2] float32.
    of_pairs: Draws points for the losses of some pairs. (image, instance), [n]
      int32 each -> candidates of which the most uncertain are kept, [n, more,
      2], and points that are always kept, [n, rest, 2] float32.
  """

  match: jax.Array
  of_pairs: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def draw_points(
  keys: jax.Array,
  output: int,
  *,
  num_points: int,
  oversample_ratio: float,
  importance_sample_ratio: float,
) -> Points:
  """Returns random points of one output.

  Those of a pair are drawn when they are needed, so that none are drawn for
  padded instances.

  Args:
    keys: Keys of the images. [B] keys.
    output: Its number.
    num_points: P.
    oversample_ratio: Number of candidates, as a multiple of P.
    importance_sample_ratio: Share of the P points that are the most uncertain
      candidates.

  Returns:
    The points.
  """
  num_others = num_points - int(importance_sample_ratio * num_points)
  num_candidates = int(oversample_ratio * num_points)
  split = jax.vmap(
    lambda key: jax.random.split(jax.random.fold_in(key, output))
  )
  shared, own = split(keys).T

  def of_pair(image, instance):
    key = jax.random.fold_in(own[image], instance)
    points = random_points(key, (num_candidates + num_others,))
    return points[:num_candidates], points[num_candidates:]

  return Points(
    match=jax.vmap(lambda key: random_points(key, (num_points,)))(shared),
    of_pairs=jax.vmap(of_pair),
  )


def mask2former_loss(
  network: nn.Module,
  batch: types.Batch,
  settings: LossSettings,
  *,
  axis_name: str | None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the loss of a batch; runs the network.

  Args:
    network: Bound, with a random stream named 'draws'.
    batch: The batch.
    settings: See `LossSettings`.
    axis_name: Name of the mapped device axis; None on a single device.

  Returns:
    As `outputs_loss`.
  """
  outputs = network(batch.image, batch.image_size, train=True, row=batch.row)
  targets = make_targets(batch, outputs.mask_logits[0].shape[1])
  draw = functools.partial(
    draw_points,
    row_keys(network.make_rng("draws"), batch.row),
    num_points=settings.num_points,
    oversample_ratio=settings.oversample_ratio,
    importance_sample_ratio=settings.importance_sample_ratio,
  )
  loss, terms = outputs_loss(
    outputs,
    targets,
    batch.image_valid,
    draw,
    settings,
    axis_name,
  )
  dropped = jnp.sum(batch.num_dropped) + jnp.sum(targets.num_dropped)
  return loss, terms | dict(instances_dropped=dropped)


def outputs_loss(
  outputs: Outputs,
  targets: Targets,
  image_valid: jax.Array,
  draw: Callable[[int], Points],
  settings: LossSettings,
  axis_name: str | None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the summed losses of all outputs, each matched on its own.

  Divisors are counted over the batch on all devices, so that the mean of the
  per-device losses is the loss of the global batch.

  Args:
    outputs: Outputs of the network.
    targets: Targets of the batch.
    image_valid: False for an image to ignore. [B] bool.
    draw: Number of an output -> its points.
    settings: Weights of the losses.
    axis_name: Name of the mapped device axis; None on a single device.

  Returns:
    The loss, [] float32, and its terms: category_loss, mask_loss and dice_loss,
    weighted sums over the outputs, their values of the last output alone
    (last_...), and num_instances, the mean per image.
  """
  points = [draw(i) for i in range(len(outputs.mask_logits))]
  costs = [
    pair_costs(*logits, targets, point.match, settings)
    for *logits, point in zip(
      outputs.class_logits, outputs.mask_logits, points, strict=True
    )
  ]
  # One loop for the matchings of all outputs and images.
  costs = jnp.stack(costs)
  queries = match(costs, jnp.broadcast_to(targets.valid, costs.shape[:-1]))
  num_masks = count_everywhere(jnp.sum(targets.valid), axis_name)
  sums = dict(category_loss=0.0, mask_loss=0.0, dice_loss=0.0)
  for *logits, query, point in zip(
    outputs.class_logits, outputs.mask_logits, queries, points, strict=True
  ):
    category, divisor = category_loss(
      logits[0], targets, query, image_valid, settings.no_object_weight
    )
    # Without any query, the sum of the weights is 0: do not divide by it.
    category /= count_everywhere(
      divisor, axis_name, least=settings.no_object_weight
    )
    masks, dice = mask_losses(logits[1], targets, query, point, settings)
    last = dict(
      category_loss=settings.category_weight * category,
      mask_loss=(masks - dice) / num_masks,
      dice_loss=dice / num_masks,
    )
    sums = {name: sums[name] + value for name, value in last.items()}
  terms = sums | {f"last_{name}": value for name, value in last.items()}
  count = jnp.sum(targets.valid, axis=1, dtype=jnp.float32)
  return sum(sums.values()), terms | dict(num_instances=jnp.mean(count))


def pair_costs(
  class_logits: jax.Array,
  mask_logits: jax.Array,
  targets: Targets,
  points: jax.Array,
  settings: LossSettings,
) -> jax.Array:
  """Returns the cost of matching each query with each instance.

  Args:
    class_logits: [B, Q, K + 1] float32.
    mask_logits: [B, Q, h, w] float32.
    targets: The instances.
    points: The same for all pairs of an image. [B, P, 2] float32.
    settings: Weights of the three costs.

  Returns:
    Any value for padded instances; no gradient. [B, N, Q] float32.
  """
  class_logits, mask_logits = jax.lax.stop_gradient((class_logits, mask_logits))

  def image_costs(inputs):
    mask_logits, points, truth = inputs
    entropy, dice = pairwise_point_mask_losses(
      read_shared_points(mask_logits, points), truth
    )
    return settings.mask_weight * entropy + settings.dice_weight * dice

  truth = read_mask_points(targets.masks, points[:, None])
  # One image at a time: for a batch, XLA on CPU repeats the sums over points
  # for each pair.
  costs = jax.lax.map(image_costs, (mask_logits, points, truth))
  probs = jax.nn.softmax(class_logits).transpose(0, 2, 1)  # [B, K + 1, Q]
  of_label = jnp.take_along_axis(probs, targets.labels[..., None], axis=1)
  return costs - settings.category_cost * of_label


def category_loss(
  class_logits: jax.Array,
  targets: Targets,
  query: jax.Array,
  image_valid: jax.Array,
  no_object_weight: float,
) -> tuple[jax.Array, jax.Array]:
  """Returns the summed weighted cross-entropy of all queries.

  Args:
    class_logits: [B, Q, K + 1] float32.
    targets: The instances.
    query: Query of each instance. [B, N] int32.
    image_valid: False for an image to ignore. [B] bool.
    no_object_weight: Weight of queries without instance; others have 1.

  Returns:
    The sum and the sum of the weights, [] float32 each.
  """
  num_queries, num_outputs = class_logits.shape[1:]

  def assign(query, labels, valid):
    target = jnp.full(num_queries, num_outputs - 1, labels.dtype)
    return target.at[jnp.where(valid, query, num_queries)].set(
      labels, mode="drop"
    )

  target = jax.vmap(assign)(query, targets.labels, targets.valid)
  weight = jnp.where(target == num_outputs - 1, no_object_weight, 1.0)
  weight = jnp.where(image_valid[:, None], weight, 0.0)
  losses = softmax_cross_entropy(class_logits, target)
  return jnp.sum(weight * losses), jnp.sum(weight)


def mask_losses(
  mask_logits: jax.Array,
  targets: Targets,
  query: jax.Array,
  points: Points,
  settings: LossSettings,
) -> tuple[jax.Array, jax.Array]:
  """Returns the weighted losses of masks, summed over the matched pairs.

  Args:
    mask_logits: [B, Q, h, w] float32.
    targets: The instances.
    query: Query of each instance. [B, N] int32.
    points: Points to sample.
    settings: Weights of the losses.

  Returns:
    The sum of cross-entropy and dice loss, and dice loss alone, which has no
    gradient. [] float32 each.
  """
  batch, num_queries, *size = mask_logits.shape
  num_instances = query.shape[1]
  index = query + num_queries * jnp.arange(batch)[:, None]
  # Points of all images are chosen together, as some images have few instances
  # and others many.
  chosen = uncertain_points_of_valid(
    mask_logits.reshape(-1, *size),
    index.reshape(-1),
    targets.valid.reshape(-1),
    lambda pair: points.of_pairs(pair // num_instances, pair % num_instances),
    points.match.shape[1],
  )
  chosen = chosen.reshape(*index.shape, *chosen.shape[1:])

  def pair_losses(logits, _, pairs):
    masks, query, chosen = pairs
    masks = jax.tree.map(lambda x: x[None], masks)
    entropy, dice = point_mask_losses(
      read_points(logits, query, chosen),
      read_mask_points(masks, chosen[None])[0],
    )
    dice *= settings.dice_weight
    return settings.mask_weight * entropy + dice, dice

  sums, dice = instance_sum(
    pair_losses,
    mask_logits,
    (),
    (targets.masks, query, chosen),
    jnp.broadcast_to(jnp.arange(num_instances), query.shape),
    targets.valid,
  )
  return jnp.sum(sums), jnp.sum(dice)
