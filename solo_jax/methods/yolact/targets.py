"""Assigns instances to priors for training.

Shape letters: N instances per image, A priors.
"""

import jax
import jax.numpy as jnp

from solo_jax.methods.regions.box_coding import area

RULES = ("greedy", "best_prior")
HIGH = 0.5  # from this overlap a prior is positive
LOW = 0.4  # below this overlap it is background; between both it is left out
CROWDED = 0.7  # share of a prior in a crowd above which it is no background


def assign(
  iou: jax.Array, valid: jax.Array, rule: str
) -> tuple[jax.Array, jax.Array]:
  """Returns the instance assigned to each prior.

  Args:
    iou: Overlap of instances and priors. [N, A] float32.
    valid: Which instances are real. [N] bool.
    rule: How each instance gets its own prior. 'greedy': pairs of instance
      and prior by decreasing overlap, each instance and each prior once (the
      authors' code). 'best_prior': the prior that overlaps it most; if several
      instances claim one, the last (mmdetection).

  Returns:
    instance: [A] int32; for priors that are not positive, the instance with the
      highest overlap.
    kind: 1 positive, 0 background, -1 left out. [A] int32.

  Raises:
    ValueError: If the rule is unknown.
  """
  if rule not in RULES:
    raise ValueError(f"rule must be in {RULES}, got {rule!r}.")
  num_instances, num_priors = iou.shape
  if num_instances == 0:
    zeros = jnp.zeros(num_priors, jnp.int32)
    return zeros, zeros
  iou = jnp.where(valid[:, None], iou, -1.0)
  best = jnp.max(iou, axis=0)
  instance = jnp.argmax(iou, axis=0).astype(jnp.int32)
  claim = _greedy if rule == "greedy" else _best_prior
  claimed = claim(iou, valid)
  instance = jnp.where(claimed >= 0, claimed, instance)
  kind = jnp.where(best < LOW, 0, -1)
  kind = jnp.where((best >= HIGH) | (claimed >= 0), 1, kind)
  return instance.astype(jnp.int32), kind.astype(jnp.int32)


def leave_crowds_out(
  kind: jax.Array, priors: jax.Array, crowd_boxes: jax.Array
) -> jax.Array:
  """Returns kinds of priors, those in crowds neither positive nor background.

  Args:
    kind: See `assign`. [A] int32.
    priors: [A, 4] float32.
    crowd_boxes: Boxes of crowds; without area where there is none.
      [n, 4] float32.

  Returns:
    [A] int32; positives stay.
  """
  low = jnp.maximum(priors[:, None, :2], crowd_boxes[:, :2])
  high = jnp.minimum(priors[:, None, 2:], crowd_boxes[:, 2:])
  shared = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
  share = jnp.max(shared, axis=1) / jnp.maximum(area(priors), 1e-6)
  return jnp.where((kind != 1) & (share > CROWDED), -1, kind)


def _greedy(iou, valid):
  """Returns the instance that claims each prior, -1 for none. [A] int32.

  An instance's highest overlap among free priors is found again only once its
  turn comes and the prior has been claimed: until then it is a bound.
  """
  del valid  # invalid instances have no overlap

  def take_turn(state):
    bound, wanted, claimed = state
    row = jnp.argmax(bound)
    column = wanted[row]
    is_free = claimed[column] < 0
    overlap = jnp.where(claimed < 0, iou[row], -1.0)
    bound = bound.at[row].set(jnp.where(is_free, -1.0, jnp.max(overlap)))
    wanted = wanted.at[row].set(jnp.argmax(overlap))
    claimed = claimed.at[column].set(
      jnp.where(is_free, row.astype(jnp.int32), claimed[column])
    )
    return bound, wanted, claimed

  start = (
    jnp.max(iou, axis=1),
    jnp.argmax(iou, axis=1),
    jnp.full(iou.shape[1], -1, jnp.int32),
  )
  return jax.lax.while_loop(lambda x: jnp.max(x[0]) >= 0, take_turn, start)[2]


def _best_prior(iou, valid):
  """Returns the last instance that each prior is the best of. [A] int32."""
  rows = jnp.where(valid, jnp.arange(len(iou)), -1)
  claimed = jnp.full(iou.shape[1], -1, jnp.int32)
  return claimed.at[jnp.argmax(iou, axis=1)].max(rows)
