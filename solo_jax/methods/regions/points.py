"""Points in boxes.

Shape letters: R boxes, P points.
"""

import jax
import jax.numpy as jnp


def points_in_boxes(boxes: jax.Array, points: jax.Array) -> jax.Array:
  """Returns points of the image, given points relative to boxes.

  Args:
    boxes: [..., R, 4] float32.
    points: (x, y) in [0, 1] of the box. [..., R, P, 2] float32.

  Returns:
    (x, y), continuous network pixels. [..., R, P, 2] float32.
  """
  low, high = boxes[..., None, :2], boxes[..., None, 2:]
  return low + points * (high - low)


def grid_points(height: int, width: int) -> jax.Array:
  """Returns the centres of the cells of a grid, by rows.

  Args:
    height: Cells along y.
    width: Cells along x.

  Returns:
    (x, y) in [0, 1]. [height * width, 2] float32.
  """
  y, x = ((jnp.arange(n, dtype=jnp.float32) + 0.5) / n for n in (height, width))
  y, x = jnp.meshgrid(y, x, indexing="ij")
  return jnp.stack([x, y], axis=-1).reshape(-1, 2)
