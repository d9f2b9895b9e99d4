"""Assignment of ground truth to anchors and proposals by overlap.

Shape letters: N instances per image, A boxes (anchors or proposals).
"""

import dataclasses

import jax
import jax.numpy as jnp

LOW_QUALITY = ("none", "keep", "claim")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matching:
  """When a box belongs to an instance.

  Attributes:
    high: From this overlap a box is positive.
    low: Below this overlap it is background; between both it is ignored.
    low_quality: How to treat the boxes with an instance's best overlap below
      `high`: 'none': nothing. 'keep': they are positive for the instance that
      they overlap most (torchvision, detectron2). 'claim': they are positive
      for that very instance (the last, if several claim a box), even if they
      were positive for another one (mmdet).
    lower_bound: Least overlap of a box that 'claim' makes positive.
  """

  high: float
  low: float
  low_quality: str
  lower_bound: float

  def __post_init__(self):
    if self.low_quality not in LOW_QUALITY:
      raise ValueError(
        f"low_quality must be in {LOW_QUALITY}, got {self.low_quality!r}."
      )


def match(
  iou: jax.Array, valid: jax.Array, matching: Matching
) -> tuple[jax.Array, jax.Array]:
  """Returns the instance assigned to each box.

  Without instances, all boxes are background.

  Args:
    iou: Overlap of instances and boxes; negative for boxes to ignore.
      [N, A] float32.
    valid: Which instances are real. [N] bool.
    matching: Thresholds.

  Returns:
    instance: Instance of each box; for boxes that are not positive, the one
      with the highest overlap, the first if several are equal. [A] int32.
    kind: 1 positive, 0 background, -1 ignored. [A] int32.
  """
  iou = jnp.where(valid[:, None], iou, -1.0)
  if iou.shape[0] == 0:
    zeros = jnp.zeros(iou.shape[1], jnp.int32)
    return zeros, zeros
  best = jnp.max(iou, axis=0)
  instance = jnp.argmax(iou, axis=0).astype(jnp.int32)
  is_positive = best >= matching.high
  if matching.low_quality != "none":
    best_of_instance = jnp.max(iou, axis=1, keepdims=True)
    # An instance that overlaps no box has ties everywhere, at 0.
    is_best = (iou == best_of_instance) & (best_of_instance > 0)
    if matching.low_quality == "claim":
      is_best &= best_of_instance >= matching.lower_bound
      last = len(iou) - 1 - jnp.argmax(is_best[::-1], axis=0)
      instance = jnp.where(jnp.any(is_best, axis=0), last, instance)
    is_positive |= jnp.any(is_best, axis=0)
  kind = jnp.where(best < matching.low, 0, -1)
  kind = jnp.where(is_positive, 1, kind)
  return instance.astype(jnp.int32), kind.astype(jnp.int32)
