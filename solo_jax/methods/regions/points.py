"""Reading of maps at points.

Shape letters: h, w size of a map, C channels, P points.
"""

import jax
import jax.numpy as jnp


def sample_points(feature: jax.Array, points: jax.Array) -> jax.Array:
  """Returns a map at points, bilinear, as if surrounded by zeros.

  Args:
    feature: [h, w, C] float.
    points: (x, y) in cells, continuous: the centre of cell 0 is at 0.5.
      [P, 2] float32. Get no gradient.

  Returns:
    [P, C], dtype of `feature`.
  """
  height, width, channels = feature.shape
  points = jax.lax.stop_gradient(points) - 0.5
  low = jnp.floor(points)
  fraction = points - low
  low = low.astype(jnp.int32)
  flat = feature.reshape(-1, channels)
  total = 0
  for dx in (0, 1):
    for dy in (0, 1):
      x, y = low[:, 0] + dx, low[:, 1] + dy
      is_inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
      weight = jnp.abs(1 - dx - fraction[:, 0]) * jnp.abs(
        1 - dy - fraction[:, 1]
      )
      weight = jnp.where(is_inside, weight, 0.0).astype(feature.dtype)
      index = jnp.where(is_inside, y * width + x, 0)
      total += flat[index] * weight[:, None]
  return total


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


def grid_points(size: int) -> jax.Array:
  """Returns the centres of the cells of a square grid, by rows.

  Args:
    size: Cells a side.

  Returns:
    (x, y) in [0, 1]. [size * size, 2] float32.
  """
  at = (jnp.arange(size, dtype=jnp.float32) + 0.5) / size
  y, x = jnp.meshgrid(at, at, indexing="ij")
  return jnp.stack([x, y], axis=-1).reshape(-1, 2)
