"""Targets of the queries.

Shape letters: B images, N instances (padded), Q queries.
"""

import dataclasses

import jax
import jax.numpy as jnp

from solo_jax import types


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Targets:
  """Instances, no more than there are queries.

  Attributes:
    masks: [B, N] masks of [h, w].
    labels: [B, N] int32.
    valid: [B, N] bool.
    num_dropped: Instances without a query. [B] int32.
  """

  masks: types.PackedMasks
  labels: jax.Array
  valid: jax.Array
  num_dropped: jax.Array


def make_targets(batch: types.Batch, num_queries: int) -> Targets:
  """Returns the targets of a batch.

  Args:
    batch: The batch; images with `image_valid` False have no instances.
    num_queries: Q.

  Returns:
    The instances, at most the first Q.
  """
  valid = batch.valid & batch.image_valid[:, None]
  targets = Targets(
    masks=batch.masks,
    labels=batch.labels,
    valid=valid,
    num_dropped=jnp.maximum(jnp.sum(valid, axis=1) - num_queries, 0),
  )
  if valid.shape[1] <= num_queries:
    return targets
  first = jnp.argsort(~valid, axis=1, stable=True)[:, :num_queries]
  kept = jax.tree.map(
    lambda x: jax.vmap(lambda rows, index: rows[index])(x, first),
    (targets.masks, targets.labels, targets.valid),
  )
  masks, labels, valid = kept
  return dataclasses.replace(targets, masks=masks, labels=labels, valid=valid)
