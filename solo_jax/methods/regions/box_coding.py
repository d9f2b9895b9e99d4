"""Boxes as offsets to other boxes; clipping; overlap.

Boxes are x1, y1, x2, y2 in continuous network pixels; a side is x2 - x1.
"""

import math

import jax
import jax.numpy as jnp

MAX_LOG_RATIO = math.log(1000 / 16)  # of a decoded side to its reference
SIDE_FLOOR = 1e-6  # keeps codes of padding finite; no real box is as thin
LOG_CLAMPS = ("above", "both")


def sides(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns (width, height) of boxes. [..., 4] -> two [...]."""
  return boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]


def area(boxes: jax.Array) -> jax.Array:
  """Returns the areas of boxes. [..., 4] -> [...]."""
  width, height = sides(boxes)
  return width * height


def encode(
  boxes: jax.Array, reference: jax.Array, weights: tuple[float, ...]
) -> jax.Array:
  """Returns boxes as offsets (https://arxiv.org/abs/1311.2524, appendix C).

  Args:
    boxes: Boxes to encode. [..., 4] float32.
    reference: Anchors or proposals. [..., 4] float32.
    weights: Factors of dx, dy, dw, dh.

  Returns:
    ((gx - px) / pw, (gy - py) / ph, log(gw / pw), log(gh / ph)) * weights.
    [..., 4] float32, finite also for boxes without area.
  """
  width, height = (jnp.maximum(s, SIDE_FLOOR) for s in sides(reference))
  box_width, box_height = (jnp.maximum(s, SIDE_FLOOR) for s in sides(boxes))
  x, y = _centers(reference)
  box_x, box_y = _centers(boxes)
  codes = (
    (box_x - x) / width,
    (box_y - y) / height,
    jnp.log(box_width / width),
    jnp.log(box_height / height),
  )
  return jnp.stack(codes, axis=-1) * jnp.asarray(weights, jnp.float32)


def decode(
  codes: jax.Array,
  reference: jax.Array,
  weights: tuple[float, ...],
  *,
  log_clamp: str,
) -> jax.Array:
  """Returns the boxes of offsets.

  Args:
    codes: From `encode`. [..., 4] float32.
    reference: Anchors or proposals. [..., 4] float32.
    weights: See `encode`.
    log_clamp: Codes of the sides are kept at most log(1000 / 16) ('above':
      torchvision, detectron2), or also at least its negative ('both': mmdet).

  Returns:
    Not clipped to the image. [..., 4] float32.

  Raises:
    ValueError: If `log_clamp` is unknown.
  """
  if log_clamp not in LOG_CLAMPS:
    raise ValueError(f"log_clamp must be in {LOG_CLAMPS}, got {log_clamp!r}.")
  codes = codes / jnp.asarray(weights, jnp.float32)
  low = -MAX_LOG_RATIO if log_clamp == "both" else None
  logs = jnp.clip(codes[..., 2:], low, MAX_LOG_RATIO)
  width, height = sides(reference)
  x, y = _centers(reference)
  x = x + codes[..., 0] * width
  y = y + codes[..., 1] * height
  half_width = jnp.exp(logs[..., 0]) * width / 2
  half_height = jnp.exp(logs[..., 1]) * height / 2
  corners = (x - half_width, y - half_height, x + half_width, y + half_height)
  return jnp.stack(corners, axis=-1)


def clip(boxes: jax.Array, image_size: jax.Array) -> jax.Array:
  """Returns boxes clipped to images.

  Args:
    boxes: [..., R, 4] float32.
    image_size: Valid (height, width), without padding. [..., 2] int32.

  Returns:
    [..., R, 4] float32.
  """
  limits = image_size[..., None, [1, 0, 1, 0]].astype(jnp.float32)
  return jnp.clip(boxes, 0, limits)


def pairwise_iou(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns intersection over union of all pairs.

  Args:
    a: [N, 4] float32.
    b: [M, 4] float32.

  Returns:
    0 for two boxes without area. [N, M] float32.

  Examples:
    >>> import jax.numpy as jnp
    >>> a = jnp.array([[0.0, 0.0, 2.0, 2.0]])
    >>> b = jnp.array([[0.0, 0.0, 2.0, 1.0], [5.0, 5.0, 6.0, 6.0]])
    >>> pairwise_iou(a, b).tolist()
    [[0.5, 0.0]]
  """
  low = jnp.maximum(a[:, None, :2], b[None, :, :2])
  high = jnp.minimum(a[:, None, 2:], b[None, :, 2:])
  overlap = jnp.prod(jnp.maximum(high - low, 0), axis=-1)
  union = area(a)[:, None] + area(b)[None] - overlap
  return jnp.where(union > 0, overlap / jnp.where(union > 0, union, 1), 0.0)


def is_large_enough(boxes: jax.Array, min_side: float | None) -> jax.Array:
  """Returns which boxes have sides above 0 and of at least `min_side`.

  Args:
    boxes: [..., 4] float32.
    min_side: None lets boxes without area pass too.

  Returns:
    [...] bool.
  """
  width, height = sides(boxes)
  if min_side is None:
    return jnp.ones(width.shape, bool)
  smaller = jnp.minimum(width, height)
  return (smaller > 0) & (smaller >= min_side)


def _centers(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
  x = (boxes[..., 0] + boxes[..., 2]) / 2
  return x, (boxes[..., 1] + boxes[..., 3]) / 2
