"""Detections from the outputs of box heads, before masks.

Shape letters: B images, R proposals, K classes, M detections.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from solo_jax.methods.regions.box_coding import is_large_enough
from solo_jax.methods.regions.nms import nms_by_score


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectionSettings:
  """Thresholds of detections.

  Attributes:
    score_threshold: Probability of a class that a detection exceeds.
    nms_threshold: Overlap above which one suppresses another of its class.
    max_detections: M.
    min_side: Sides of a detection are at least this, and above 0; None: boxes
      without area count too (mmdet).
  """

  score_threshold: float
  nms_threshold: float
  max_detections: int
  min_side: float | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Detections:
  """Detections by decreasing score; those not valid come last, with score 0.

  Attributes:
    boxes: Network pixels. [B, M, 4] float32.
    scores: [B, M] float32.
    labels: [B, M] int32.
    valid: [B, M] bool.
  """

  boxes: jax.Array
  scores: jax.Array
  labels: jax.Array
  valid: jax.Array


@functools.partial(jax.jit, static_argnames="settings")  # traced once
def select_detections(
  boxes: jax.Array,
  probs: jax.Array,
  valid: jax.Array,
  settings: DetectionSettings,
) -> Detections:
  """Returns detections: every class of every proposal competes.

  Args:
    boxes: Clipped box of each class, or one for all classes. [B, R, K or 1, 4]
      float32.
    probs: Probabilities of each class, without background. [B, R, K] float32.
    valid: Which proposals are real. [B, R] bool.
    settings: Thresholds.

  Returns:
    The detections.
  """

  def select(boxes, probs, valid):
    num_classes = probs.shape[1]
    boxes = jnp.broadcast_to(boxes, (*probs.shape, 4)).reshape(-1, 4)
    is_candidate = (probs > settings.score_threshold) & valid[:, None]
    is_candidate = is_candidate.reshape(-1) & is_large_enough(
      boxes, settings.min_side
    )
    scores = probs.reshape(-1)
    labels = jnp.arange(len(scores), dtype=jnp.int32) % num_classes
    kept, is_kept = nms_by_score(
      boxes,
      scores,
      is_candidate,
      threshold=settings.nms_threshold,
      max_kept=settings.max_detections,
      group=labels,
    )
    return Detections(
      boxes=jnp.where(is_kept[:, None], boxes[kept], 0.0),
      scores=jnp.where(is_kept, scores[kept], 0.0),
      labels=jnp.where(is_kept, labels[kept], 0),
      valid=is_kept,
    )

  return jax.vmap(select)(boxes, probs, valid)
