"""Boxes on the levels of a feature pyramid.

Shape letters: B images, R boxes per image, s side of the result, C channels.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from solo_jax.methods.regions.anchors import STRIDES
from solo_jax.methods.regions.box_coding import area
from solo_jax.methods.regions.roi_align import pool, roi_matrices

NUM_LEVELS = 4  # boxes are pooled from P2 to P5; P6 is only for proposals


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pooling:
  """How the features of boxes are read from a pyramid.

  Attributes:
    base_size: Square root of the area from which a box is on `base_level`.
    base_level: 0 for P2, to 3 for P5.
    ratio_epsilon: Added to size / `base_size`: mmdet 1e-6, detectron2 1e-8.
    log_epsilon: Added to the level before it is rounded down: torchvision 1e-6.
    is_aligned: See `roi_align.roi_matrices`.
    num_samples: See `roi_align.averaging_matrix`.
  """

  base_size: float
  base_level: int
  ratio_epsilon: float
  log_epsilon: float
  is_aligned: bool
  num_samples: int | None


def find_levels(boxes: jax.Array, pooling: Pooling) -> jax.Array:
  """Returns the level of each box (https://arxiv.org/abs/1612.03144, eq. 1).

  Args:
    boxes: [..., 4] float32.
    pooling: Sizes.

  Returns:
    0 for P2 to 3 for P5; 0 for boxes without area. [...] int32.
  """
  ratio = jnp.sqrt(jnp.maximum(area(boxes), 0)) / pooling.base_size
  level = pooling.base_level + jnp.log2(ratio + pooling.ratio_epsilon)
  level = jnp.floor(level + pooling.log_epsilon)
  return jnp.clip(level, 0, NUM_LEVELS - 1).astype(jnp.int32)


# Traced once for all stages of a cascade.
@functools.partial(jax.jit, static_argnames=("size", "pooling"))
def pool_boxes(
  pyramid: Sequence[jax.Array],
  boxes: jax.Array,
  valid: jax.Array,
  *,
  size: int,
  pooling: Pooling,
) -> jax.Array:
  """Returns each box pooled from its level.

  Args:
    pyramid: P2 to P5 or more. [B, h, w, C] float each.
    boxes: Network pixels. [B, R, 4] float32.
    valid: Which are wanted. [B, R] bool.
    size: s.
    pooling: Settings.

  Returns:
    0 where not valid. [B, R, s, s, C], dtype of the pyramid.
  """
  return _pool(
    pyramid[:NUM_LEVELS],
    boxes,
    find_levels(boxes, pooling),
    valid,
    strides=STRIDES[:NUM_LEVELS],
    size=size,
    pooling=pooling,
  )


def pool_level(
  feature: jax.Array,
  boxes: jax.Array,
  valid: jax.Array,
  *,
  stride: int,
  size: int,
  pooling: Pooling,
) -> jax.Array:
  """Returns boxes pooled from one map, as `pool_boxes`.

  Args:
    feature: [B, h, w, C] float.
    boxes: [B, R, 4] float32.
    valid: [B, R] bool.
    stride: Network pixels per cell.
    size: s.
    pooling: Settings; the sizes are ignored.

  Returns:
    [B, R, s, s, C], dtype of `feature`.
  """
  return _pool(
    (feature,),
    boxes,
    jnp.zeros(valid.shape, jnp.int32),
    valid,
    strides=(stride,),
    size=size,
    pooling=pooling,
  )


def _pool(pyramid, boxes, levels, valid, *, strides, size, pooling):
  # Padded boxes may be huge and would need more samples than any real box.
  boxes = jnp.where(valid[..., None], jax.lax.stop_gradient(boxes), 0.0)
  rows, columns = roi_matrices(
    boxes,
    levels,
    [feature.shape[1:3] for feature in pyramid],
    strides=strides,
    size=size,
    is_aligned=pooling.is_aligned,
    num_samples=pooling.num_samples,
  )
  return pool(tuple(pyramid), levels, rows, columns, valid)
