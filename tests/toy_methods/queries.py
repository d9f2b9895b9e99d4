"""Learned queries, matched to the ground truth, trained on drawn points."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from solo_jax import types
from solo_jax.methods.interface import Method
from solo_jax.nn.draws import row_keys
from solo_jax.nn.layers import normalize_image


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
  """Class logits [B, Q, K + 1], the last no object, and mask logits."""

  category_logits: jax.Array
  mask_logits: jax.Array  # [B, Q, h, w]


class Network(nn.Module):
  """Queries that look once at the map of stride 16; masks at stride 4."""

  backbone: nn.Module
  num_classes: int
  num_queries: int
  channels: int
  mean: tuple[float, ...]
  std: tuple[float, ...]
  channel_order: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, image, image_size, *, train, row=None):
    x = normalize_image(
      image,
      image_size,
      mean=self.mean,
      std=self.std,
      channel_order=self.channel_order,
      dtype=self.dtype,
    )
    fine, _, coarse, _ = self.backbone(x, train=train, row=row)
    coarse = coarse.reshape(len(image), -1, coarse.shape[-1])
    query = self.param(
      "queries", nn.initializers.normal(1), (self.num_queries, self.channels)
    )
    key = nn.Dense(self.channels, name="key")(coarse)
    weights = nn.softmax(jnp.einsum("qc,bpc->bqp", query, key))
    query = query + weights @ nn.Dense(self.channels, name="value")(coarse)
    query = nn.LayerNorm(name="norm")(query)
    pixels = nn.Conv(self.channels, (3, 3), name="pixels")(fine)
    return Outputs(
      nn.Dense(self.num_classes + 1, name="category")(query),
      jnp.einsum("bqc,bhwc->bqhw", nn.Dense(self.channels)(query), pixels),
    )


def match(cost, valid):
  """Gives each instance the cheapest query that is left, cheapest pair first.

  Args:
    cost: [N, Q].
    valid: [N] bool.

  Returns:
    Query of each instance; Q, out of range, without one. [N] int32.
  """
  num_queries = cost.shape[1]
  cost = jnp.where(valid[:, None], cost, jnp.inf)

  def take(state, _):
    cost, query = state
    n, q = jnp.unravel_index(jnp.argmin(cost), cost.shape)
    is_left = jnp.isfinite(cost[n, q])
    query = query.at[n].set(jnp.where(is_left, q, query[n]))
    return (cost.at[n].set(jnp.inf).at[:, q].set(jnp.inf), query), None

  query = jnp.full(len(cost), num_queries, jnp.int32)
  (_, query), _ = jax.lax.scan(take, (cost, query), length=min(cost.shape))
  return query


def image_loss(outputs, masks, labels, valid, key, *, num_points, weight):
  """The loss of one image: (classes, points)."""
  num_queries, num_slots = outputs.category_logits.shape
  logits = outputs.mask_logits.reshape(num_queries, -1)
  points = jax.random.randint(key, (num_points,), 0, logits.shape[1])
  logits = logits[:, points]
  targets = masks.reshape(len(masks), -1)[:, points]
  points_loss = optax.sigmoid_binary_cross_entropy(
    logits[None], targets[:, None]
  ).mean(-1)  # [N, Q]
  log_probs = nn.log_softmax(outputs.category_logits)
  cost = jax.lax.stop_gradient(points_loss - jnp.exp(log_probs[:, labels]).T)
  query = match(cost, valid)
  found = query < num_queries
  target = jnp.full(num_queries, num_slots - 1)
  target = target.at[query].set(labels, mode="drop")
  weights = jnp.where(target == num_slots - 1, weight, 1.0)
  category = -jnp.take_along_axis(log_probs, target[:, None], 1)[:, 0]
  taken = jnp.take_along_axis(points_loss, query[:, None], 1, mode="clip")
  taken = jnp.sum(jnp.where(found, taken[:, 0], 0.0))
  return (
    jnp.sum(weights * category) / jnp.sum(weights),
    taken / jnp.maximum(found.sum(), 1),
  )


def compute_loss(network, batch, *, num_points, no_object_weight):
  outputs = network(batch.image, batch.image_size, train=True, row=batch.row)
  category, points = jax.vmap(
    functools.partial(
      image_loss, num_points=num_points, weight=no_object_weight
    )
  )(
    outputs,
    batch.masks.unpack(),
    batch.labels,
    batch.valid,
    row_keys(network.make_rng("draws"), batch.row),
  )
  terms = dict(
    category_loss=jnp.mean(batch.image_valid * category),
    point_loss=jnp.mean(batch.image_valid * points),
  )
  return sum(terms.values()), terms


def decode_queries(outputs, image_size, *, score_threshold, max_detections):
  probs = nn.softmax(outputs.category_logits)[..., :-1]
  scores, order = jax.lax.top_k(probs.max(-1), max_detections)
  masks = nn.sigmoid(outputs.mask_logits)
  valid = scores > score_threshold
  return types.Decoded(
    masks=types.FrameMasks(
      probs=jnp.take_along_axis(masks, order[..., None, None], 1)
    ),
    scores=jnp.where(valid, scores, 0.0),
    labels=jnp.take_along_axis(probs.argmax(-1), order, 1).astype(np.int32),
    valid=valid,
    num_dropped=jnp.sum(probs.max(-1) > score_threshold, 1, dtype=np.int32)
    - jnp.sum(valid, 1, dtype=np.int32),
  )


def make(
  backbone, *, num_classes, network, loss, decode: dict, axis_name
) -> Method:
  """As `Row.make`; the loss is a mean over images, no device counts."""
  del axis_name
  return Method(
    network=Network(backbone=backbone, num_classes=num_classes, **network),
    loss=functools.partial(compute_loss, **loss),
    decode=functools.partial(
      decode_queries,
      score_threshold=decode["score_threshold"],
      max_detections=decode["max_detections"],
    ),
  )


def problems(config):
  """Finds more detections than there are queries."""
  queries = config["network"]["num_queries"]
  if config["decode"]["max_detections"] <= queries:
    return []
  return [f"network.num_queries is {queries}, fewer than decode.max_detections"]
