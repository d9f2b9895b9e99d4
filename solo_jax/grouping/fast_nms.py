"""Fast NMS: non-maximum suppression of all classes in one parallel step.

Shape letters: A boxes, K classes, T competing boxes per class, M detections.
"""

import jax
import jax.numpy as jnp


def fast_nms(
  boxes_xyxy: jax.Array,
  scores: jax.Array,
  valid: jax.Array,
  *,
  top_k: int,
  threshold: float,
  min_score: float | None,
  max_detections: int,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Returns the best boxes of all classes (section 4.1 of YOLACT).

  https://arxiv.org/abs/1904.02689. A box is removed if a box of a higher score
  in its class overlaps it by more than the threshold, even one that is removed
  itself. Two boxes without area overlap, as their 0 / 0 does in the published
  code.

  Args:
    boxes_xyxy: [A, 4] float32.
    scores: Scores of each class, without the background. [A, K] float32, >= 0.
    valid: Which boxes take part. [A] bool.
    top_k: T, boxes of the highest scores in each class.
    threshold: Overlap (IoU) above which a box is removed.
    min_score: A detection's score must be above it; None accepts all.
    max_detections: M.

  Returns:
    box: Index of each detection's box, by decreasing score. [M] int32.
    label: [M] int32.
    score: [M] float32, 0 where not valid.
    valid: [M] bool, the valid ones first.
  """
  count = min(top_k, len(scores))
  ranked = jnp.where(valid[:, None], scores, -1.0).T  # [K, A]
  ranked, index = jax.lax.top_k(ranked, count)  # [K, T]
  found = boxes_xyxy[index]  # [K, T, 4]
  overlap = jnp.max(jnp.triu(_overlaps(found), k=1), axis=1)  # [K, T]
  kept = (overlap <= threshold) & (ranked >= 0)
  if min_score is not None:
    kept &= ranked > min_score
  kept, ranked, index = (x.reshape(-1) for x in (kept, ranked, index))
  score, place = jax.lax.top_k(
    jnp.where(kept, ranked, -1.0), min(max_detections, len(kept))
  )
  padding = (0, max_detections - len(score))
  score = jnp.pad(score, padding, constant_values=-1.0)
  place = jnp.pad(place, padding)
  is_valid = score >= 0
  return (
    index[place].astype(jnp.int32),
    (place // count).astype(jnp.int32),
    jnp.where(is_valid, score, 0.0),
    is_valid,
  )


def _overlaps(boxes: jax.Array) -> jax.Array:
  """Returns the IoU of all pairs, 1 where both are without area. [K, T, T]."""
  low = jnp.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
  high = jnp.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
  shared = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
  areas = jnp.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)
  union = areas[:, :, None] + areas[:, None] - shared
  return jnp.where(union > 0, shared / jnp.where(union > 0, union, 1), 1.0)
