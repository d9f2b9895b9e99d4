"""Greedy non-maximum suppression of boxes, exact and compiled.

The published loop goes through the boxes by decreasing score and drops each box
whose overlap with a kept one is above the threshold. Here it proceeds block by
block: a block is compared with all boxes kept so far, and the remaining ones
with each other, repeatedly until nothing changes. This takes at most the length
of the longest chain of suppressions and then equals the loop. It stops when
enough boxes are kept, so later boxes cost nothing.
"""

import functools

import jax
import jax.numpy as jnp

from solo_jax.methods.regions.box_coding import pairwise_iou

BLOCK = 128  # boxes compared at once


# Compiled programs inline it; as a function of its own it is traced once per
# shape, not again for each pass that is built.
@functools.partial(jax.jit, static_argnames=("threshold", "max_kept"))
def nms(
  boxes: jax.Array,
  valid: jax.Array,
  *,
  threshold: float,
  max_kept: int,
  group: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Returns which boxes remain: none overlaps one of a higher score.

  Args:
    boxes: By decreasing score, equal scores by index. [n, 4] float32.
    valid: Which boxes take part; the others come last. [n] bool.
    threshold: Overlap (IoU) above which a box is dropped; equal is kept.
    max_kept: Largest number of boxes kept: those with the highest scores.
    group: Boxes of different groups do not compete. [n] int32. None: all do.

  Returns:
    kept: Indices of the boxes kept, in their order, then 0. [max_kept] int32.
    num_kept: [] int32.
  """
  if group is None:
    group = jnp.zeros(len(boxes), jnp.int32)
  num_blocks = -(-len(boxes) // BLOCK)
  pad = num_blocks * BLOCK - len(boxes)
  boxes = jnp.pad(boxes, ((0, pad), (0, 0)))
  group, valid = jnp.pad(group, (0, pad)), jnp.pad(valid, (0, pad))
  slots = jnp.arange(max_kept)
  earlier = jnp.arange(BLOCK)[:, None] < jnp.arange(BLOCK)

  def overlaps(first, second):
    (a, a_group), (b, b_group) = first, second
    return (pairwise_iou(a, b) > threshold) & (a_group[:, None] == b_group)

  def is_open(state):
    block, _, num_kept = state
    start = jnp.minimum(block, num_blocks - 1) * BLOCK
    return (block < num_blocks) & (num_kept < max_kept) & valid[start]

  def add_block(state):
    block, kept, num_kept = state
    rows = block * BLOCK + jnp.arange(BLOCK)
    own = boxes[rows], group[rows]
    by_kept = overlaps((boxes[kept], group[kept]), own)
    is_candidate = valid[rows] & ~jnp.any(
      by_kept & (slots < num_kept)[:, None], axis=0
    )
    survives = survivors(is_candidate, overlaps(own, own) & earlier)
    place = num_kept + jnp.cumsum(survives) - 1
    # Compared, not scattered: ONNX has no scatter that drops.
    is_here = survives & (place == slots[:, None])  # [max_kept, BLOCK]
    new = rows[jnp.argmax(is_here, axis=1)]
    kept = jnp.where(jnp.any(is_here, axis=1), new, kept)
    num_kept = jnp.minimum(num_kept + jnp.sum(survives), max_kept)
    return block + 1, kept, num_kept

  start = jnp.int32(0), jnp.zeros(max_kept, jnp.int32), jnp.int32(0)
  _, kept, num_kept = jax.lax.while_loop(is_open, add_block, start)
  return kept, num_kept


def nms_by_score(
  boxes: jax.Array,
  scores: jax.Array,
  valid: jax.Array,
  *,
  threshold: float,
  max_kept: int,
  group: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Returns which boxes remain, of boxes in any order; see `nms`.

  Args:
    boxes: [n, 4] float32.
    scores: Of equal ones, the first box suppresses the others. [n] float32.
    valid: Which boxes take part. [n] bool.
    threshold: See `nms`.
    max_kept: See `nms`.
    group: See `nms`.

  Returns:
    kept: Indices of the boxes kept, by decreasing score, then any index.
      [max_kept] int32.
    is_kept: Which of these are real. [max_kept] bool.
  """
  order = jnp.argsort(
    jnp.where(valid, scores, -1.0), stable=True, descending=True
  )
  kept, num_kept = nms(
    boxes[order],
    valid[order],
    threshold=threshold,
    max_kept=max_kept,
    group=group[order],
  )
  return order[kept], jnp.arange(max_kept) < num_kept


def survivors(candidate: jax.Array, suppresses: jax.Array) -> jax.Array:
  """Runs the greedy loop inside a block as a fixpoint.

  Args:
    candidate: [n] bool.
    suppresses: Whether box i, if it survives, drops box j. Only for i < j.
      [n, n] bool.

  Returns:
    [n] bool.
  """

  # Numbers, since ONNX Runtime cannot choose between truth values, which
  # `jax.vmap` makes of a loop's state.
  def step(state):
    alive, _ = state
    new = candidate & ~jnp.any((alive > 0)[:, None] & suppresses, axis=0)
    new = new.astype(jnp.int32)
    return new, jnp.max(jnp.abs(new - alive))

  start = candidate.astype(jnp.int32), jnp.int32(1)
  alive, _ = jax.lax.while_loop(lambda state: state[1] > 0, step, start)
  return alive > 0
