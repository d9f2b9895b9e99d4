"""Selection of proposals from the outputs of a region proposal network.

Shape letters: B images, L levels, n anchors per level, P proposals.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.methods.regions.box_coding import clip, decode, is_large_enough
from solo_jax.methods.regions.nms import nms

WEIGHTS = (1.0, 1.0, 1.0, 1.0)  # of the codes of anchors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
  """The selection of proposals.

  Attributes:
    before_nms: Number of best anchors of each level.
    after_nms: Proposals per image.
    nms_threshold: Overlap above which one suppresses another on its level.
    min_side: Sides of a proposal are at least this, and above 0.
    log_clamp: See `box_coding.decode`.
  """

  before_nms: int
  after_nms: int
  nms_threshold: float
  min_side: float
  log_clamp: str


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Proposals:
  """Proposals by decreasing score.

  Attributes:
    boxes: Clipped to the image. [B, P, 4] float32.
    scores: Probability of an object. [B, P] float32, 0 where not valid.
    valid: [B, P] bool; fewer than P may survive.
  """

  boxes: jax.Array
  scores: jax.Array
  valid: jax.Array


def select_proposals(
  logits: Sequence[jax.Array],
  codes: Sequence[jax.Array],
  anchors: Sequence[np.ndarray],
  image_size: jax.Array,
  selection: Selection,
) -> Proposals:
  """Returns the best anchors of a batch; no gradient flows through.

  Args:
    logits: Logits of each level. [B, n] float32.
    codes: Offsets to the anchors, of each level. [B, n, 4] float32.
    anchors: Anchors of each level. [n, 4] float32.
    image_size: Valid (height, width). [B, 2] int32.
    selection: Numbers and thresholds.

  Returns:
    P = `selection.after_nms`, or all anchors where these are fewer.
  """
  logits, codes = jax.lax.stop_gradient((tuple(logits), tuple(codes)))
  return _select(logits, codes, tuple(anchors), image_size, selection)


@functools.partial(jax.jit, static_argnames="selection")  # traced once
def _select(logits, codes, anchors, image_size, selection):
  def select(logits, codes, image_size):
    levels = [
      _select_of_level(*level, image_size, selection)
      for level in zip(logits, codes, anchors, strict=True)
    ]
    boxes, scores = (jnp.concatenate(x) for x in zip(*levels, strict=True))
    count = min(selection.after_nms, len(scores))
    scores, best = jax.lax.top_k(scores, count)
    valid = scores > -jnp.inf
    return Proposals(
      boxes=jnp.where(valid[:, None], boxes[best], 0.0),
      scores=jnp.where(valid, jax.nn.sigmoid(scores), 0.0),
      valid=valid,
    )

  return jax.vmap(select)(logits, codes, image_size)


def _select_of_level(logits, codes, anchors, image_size, selection):
  """Returns the boxes that survive on a level, and logits or -inf."""
  count = min(selection.before_nms, len(logits))
  logits, best = jax.lax.top_k(logits, count)
  boxes = decode(
    codes[best],
    jnp.asarray(anchors)[best],
    WEIGHTS,
    log_clamp=selection.log_clamp,
  )
  boxes = clip(boxes, image_size)
  valid = is_large_enough(boxes, selection.min_side) & jnp.isfinite(logits)
  order = jnp.argsort(~valid, stable=True)  # valid ones come first
  logits, boxes, valid = logits[order], boxes[order], valid[order]
  max_kept = min(selection.after_nms, count)
  kept, num_kept = nms(
    boxes, valid, threshold=selection.nms_threshold, max_kept=max_kept
  )
  is_kept = jnp.arange(max_kept) < num_kept
  return boxes[kept], jnp.where(is_kept, logits[kept], -jnp.inf)
