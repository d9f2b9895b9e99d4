"""Seed clustering: the best remaining seed repeatedly claims its neighbours.

The sequential clustering of https://arxiv.org/abs/1906.11109, section 3.2, with
one re-centring step. Shape letters: Q pixels (h * w, flattened), M groups, T
tag dimensions.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.grouping.groups import Groups, Pixels

# Seeds tried per group of the capacity; failed tries count.
TRIES = 4
# Work is proportional to the number of pixels: the smallest of these shares of
# Q that holds the foreground is used.
CAPACITIES = (1 / 8, 1 / 4, 1 / 2, 1)


def seed_clustering(
  pixels: Pixels,
  seed: jax.Array,
  *,
  max_groups: int,
  seed_threshold: float,
  min_pixels: int,
  min_unclaimed: float,
) -> Groups:
  """Returns the foreground pixels of an image, grouped.

  The unclaimed pixel with the highest seed gathers the pixels of its category
  within its radius; around their mean, with their mean precision, pixels are
  gathered again and claimed. Without the second step, a noisy seed splits its
  instance.

  Map a batch with `jax.lax.map`: `jax.vmap` computes every capacity, which
  takes four times as long.

  Args:
    pixels: Pixels of the image; the foreground is grouped.
    seed: In [0, 1]. [Q] float.
    max_groups: M.
    seed_threshold: Pixels below cannot be seeds.
    min_pixels: Smaller groups are left out and their pixels are not reused.
    min_unclaimed: A group of which a smaller share was unclaimed is a remainder
      of another group and is left out.

  Returns:
    The groups in the order found. At most 4 M seeds are tried; those left
    count as dropped, each pixel on its own.
  """
  foreground = pixels.foreground
  num_pixels = foreground.shape[0]
  seed = jnp.where(foreground & (seed >= seed_threshold), seed, -1.0)
  maps = (
    pixels.embedding.astype(jnp.float32),
    pixels.log_precision.astype(jnp.float32),
    pixels.category,
    seed.astype(jnp.float32),
  )
  limits = dict(
    max_groups=max_groups, min_pixels=min_pixels, min_unclaimed=min_unclaimed
  )

  def cluster_first(capacity, rank, maps):
    index = jnp.searchsorted(rank, jnp.arange(1, capacity + 1))
    *kept, seed = jax.tree.map(lambda x: x.at[index].get(mode="clip"), maps)
    groups = _cluster(Pixels(*kept, index < num_pixels), seed, **limits)
    assignment = jnp.zeros(num_pixels, jnp.int32)
    assignment = assignment.at[index].set(groups.assignment, mode="drop")
    return dataclasses.replace(groups, assignment=assignment)

  rank = jnp.cumsum(foreground, dtype=jnp.int32)
  capacities = [int(np.ceil(share * num_pixels)) for share in CAPACITIES]
  return jax.lax.switch(
    jnp.sum(rank[-1] > jnp.array(capacities[:-1])),
    [functools.partial(cluster_first, n) for n in capacities],
    rank,
    maps,
  )


def _cluster(
  pixels: Pixels,
  seed: jax.Array,
  *,
  max_groups: int,
  min_pixels: int,
  min_unclaimed: float,
) -> Groups:
  """Returns groups of pixels; a pixel of negative `seed` cannot be a seed."""
  embedding, log_precision = pixels.embedding, pixels.log_precision
  category, foreground = pixels.category, pixels.foreground

  def is_open(state):
    tried, _, _, left, _, _, _ = state
    return (tried < TRIES * max_groups) & (jnp.max(left) > 0)

  def add_group(state):
    tried, found, unclaimed, left, assignment, centers, precisions = state
    j = jnp.argmax(left)
    same = foreground & (category == category[j])
    first = same & unclaimed & _near(embedding, embedding[j], log_precision[j])
    center = _mean(first, embedding)
    precision = _mean(first, log_precision)
    whole = same & _near(embedding, center, precision)
    members = whole & unclaimed
    count = jnp.sum(members)
    is_group = (count >= min_pixels) & (count >= min_unclaimed * jnp.sum(whole))
    row = jnp.where(is_group, found, max_groups)  # beyond: dropped by `set`
    # Not `where`: ONNX Runtime does not support it for booleans.
    used = (is_group & members) | (~is_group & first)
    # The seed itself is always claimed, or it would be tried forever.
    unclaimed = (unclaimed & ~used).at[j].set(False)
    keep = is_group & (found < max_groups)
    return (
      tried + 1,
      found + is_group,
      unclaimed,
      jnp.where(unclaimed, left, -1.0),
      jnp.where(members & keep, found + 1, assignment),
      centers.at[row].set(center, mode="drop"),
      precisions.at[row].set(precision, mode="drop"),
    )

  zero = jnp.zeros((), jnp.int32)
  num_pixels, num_tags = embedding.shape
  _, found, _, left, assignment, centers, precisions = jax.lax.while_loop(
    is_open,
    add_group,
    (
      zero,
      zero,
      foreground,
      jnp.where(foreground, seed, -1.0),
      jnp.zeros(num_pixels, jnp.int32),
      jnp.zeros((max_groups, num_tags), jnp.float32),
      jnp.zeros(max_groups, jnp.float32),
    ),
  )
  return Groups(
    assignment=assignment,
    centers=centers,
    log_precision=precisions,
    valid=jnp.arange(max_groups) < found,
    num_dropped=jnp.maximum(found - max_groups, 0) + jnp.sum(left > 0),
  )


def _near(
  embedding: jax.Array, center: jax.Array, log_precision: jax.Array
) -> jax.Array:
  """Returns whether pixels are within a radius of a centre. [Q] bool."""
  distance = jnp.sum((embedding - center) ** 2, axis=1)
  return distance * jnp.exp(log_precision) < 1


def _mean(where: jax.Array, values: jax.Array) -> jax.Array:
  """Returns the mean over some pixels of values [Q, ...]."""
  weights = where.astype(jnp.float32)
  # Accelerators would round embeddings to fewer digits than a radius needs.
  total = jnp.matmul(weights, values, precision=jax.lax.Precision.HIGHEST)
  return total / jnp.maximum(jnp.sum(weights), 1.0)
