"""Generalized intersection over union (https://arxiv.org/abs/1902.09630)."""

import jax
import jax.numpy as jnp


def generalized_iou(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns the generalized IoU of boxes (algorithm 1), un-reduced.

  IoU minus the share of the smallest box around both that neither covers.
  Shapes broadcast: `a[:, None]` and `b[None]` give all pairs.

  Args:
    a: x1, y1, x2, y2. [..., 4] float32.
    b: [..., 4] float32.

  Returns:
    In [-1, 1]; areas of 0 are taken as 1e-6. [...] float32.
  """

  def area(boxes):
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]

  def joined(low, high):
    low = low(a[..., :2], b[..., :2])
    return jnp.concatenate([low, high(a[..., 2:], b[..., 2:])], axis=-1)

  shared = area(joined(jnp.maximum, jnp.minimum))
  union = jnp.maximum(area(a) + area(b) - shared, 1e-6)
  around = jnp.maximum(area(joined(jnp.minimum, jnp.maximum)), 1e-6)
  return shared / union - (around - union) / around
