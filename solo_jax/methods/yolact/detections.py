"""Selects the priors that become detections.

Shape letters: B images, A priors of all levels, K classes, k prototypes, M
detections.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.grouping.fast_nms import fast_nms
from solo_jax.methods.regions.box_coding import clip, decode

# Factors of the codes dx, dy, dw, dh: the variances 0.1 and 0.2.
CODE_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
SCORED = ("prior", "detection")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectionSettings:
  """How detections are chosen.

  Attributes:
    min_score: Score threshold.
    scored: Whether the threshold applies to the best class of each 'prior'
      before suppression (the authors' code) or to each 'detection'
      (mmdetection).
    candidates_per_level: Largest number of priors per level that compete, those
      with the best scores; None: all.
    clip_boxes: Whether boxes are clipped to the image before they compete
      (mmdetection).
    top_k: Boxes per class that compete.
    nms_threshold: Overlap above which a box is removed.
    across_classes: Whether a box also removes those of other classes; each box
      then has only its best class (an option of the authors' code).
    max_detections: M.
  """

  min_score: float
  scored: str
  candidates_per_level: int | None
  clip_boxes: bool
  top_k: int
  nms_threshold: float
  across_classes: bool
  max_detections: int

  def __post_init__(self):
    if self.scored not in SCORED:
      raise ValueError(f"scored must be in {SCORED}, got {self.scored!r}.")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Detections:
  """Detections by decreasing score, the valid ones first.

  Attributes:
    boxes_xyxy: Continuous network pixels. [B, M, 4] float32.
    coefficients: [B, M, k] float32.
    scores: 0 where not valid. [B, M] float32.
    labels: [B, M] int32.
    valid: [B, M] bool.
  """

  boxes_xyxy: jax.Array
  coefficients: jax.Array
  scores: jax.Array
  labels: jax.Array
  valid: jax.Array


def find_detections(
  class_logits: jax.Array,
  box_codes: jax.Array,
  coefficients: jax.Array,
  image_size: jax.Array,
  *,
  priors: np.ndarray,
  level_sizes: tuple[int, ...],
  settings: DetectionSettings,
) -> Detections:
  """Returns the detections of one image.

  Args:
    class_logits: Background first. [A, K + 1] float32.
    box_codes: [A, 4] float32.
    coefficients: [A, k] float32.
    image_size: Valid (height, width). [2] int32.
    priors: See `priors.make_priors`. [A, 4] float32.
    level_sizes: Number of priors of each level.
    settings: How they are chosen.

  Returns:
    Detections without the batch dimension.
  """
  scores = jax.nn.softmax(class_logits)[:, 1:]
  best = jnp.max(scores, axis=1)
  takes_part = jnp.ones(len(best), bool)
  if settings.scored == "prior":
    takes_part &= best > settings.min_score
  if settings.candidates_per_level is not None:
    takes_part &= _best_of_levels(
      best, level_sizes, settings.candidates_per_level
    )
  boxes = decode(box_codes, priors, CODE_WEIGHTS, log_clamp="both")
  if settings.clip_boxes:
    boxes = clip(boxes, image_size)
  of_best = jnp.argmax(scores, axis=1)
  if settings.across_classes:
    scores = best[:, None]
  index, labels, scores, valid = fast_nms(
    boxes,
    scores,
    takes_part,
    top_k=settings.top_k,
    threshold=settings.nms_threshold,
    min_score=settings.min_score if settings.scored == "detection" else None,
    max_detections=settings.max_detections,
  )
  if settings.across_classes:
    labels = of_best[index].astype(jnp.int32)
  return Detections(
    boxes_xyxy=boxes[index],
    coefficients=coefficients[index],
    scores=scores,
    labels=labels,
    valid=valid,
  )


def _best_of_levels(scores, level_sizes, number):
  """Returns which priors are among the best of their level. [A] bool."""
  found, start = [], 0
  for size in level_sizes:
    level = scores[start : start + size]
    count = min(number, size)
    least = jax.lax.top_k(level, count)[0][-1]
    better, equal = level > least, level == least
    # Of equal ones the first, as `top_k` takes; no scatter, for ONNX.
    room = count - jnp.sum(better)
    found.append(better | (equal & (jnp.cumsum(equal) <= room)))
    start += size
  return jnp.concatenate(found)
