"""Bilinear reads of maps at single points.

Points are (x, y) in cells, continuous: the centre of cell 0 is at 0.5. A map is
surrounded by zeros. Points get no gradient.

Shape letters: h, w size of a map, C channels, P points.
"""

import functools

import jax
import jax.numpy as jnp

Corner = tuple[jax.Array, jax.Array, jax.Array]


def corners(points: jax.Array, size: tuple[int, int]) -> list[Corner]:
  """Returns the four cells around each point.

  Args:
    points: [..., 2] float32.
    size: (h, w).

  Returns:
    (row, column, weight) of each corner, [...] int32, int32 and float32. The
    weights of cells outside are 0, their indices those of cells inside.
  """
  height, width = size
  points = jax.lax.stop_gradient(points) - 0.5
  x, y = points[..., 0], points[..., 1]
  found = []
  for dy in (0, 1):
    for dx in (0, 1):
      column = jnp.floor(x).astype(jnp.int32) + dx
      row = jnp.floor(y).astype(jnp.int32) + dy
      share = (1 - jnp.abs(x - column)) * (1 - jnp.abs(y - row))
      inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
      found.append(
        (
          jnp.clip(row, 0, height - 1),
          jnp.clip(column, 0, width - 1),
          jnp.where(inside, share, 0.0),
        )
      )
  return found


def sample_points(feature: jax.Array, points: jax.Array) -> jax.Array:
  """Returns a map at points, bilinear, as if surrounded by zeros.

  Args:
    feature: [h, w, C] float.
    points: [P, 2] float32.

  Returns:
    [P, C], dtype of `feature`; sums and gradients are added up in float32.
  """
  height, width, channels = feature.shape
  # The gradient of a cell is a sum over points, often hundreds: in bfloat16 it
  # would stop growing at 256 of them.
  flat = feature.astype(jnp.float32).reshape(-1, channels)
  values = [
    weight[:, None] * jnp.take(flat, row * width + column, axis=0, mode="clip")
    for row, column, weight in corners(points, (height, width))
  ]
  return functools.reduce(jnp.add, values).astype(feature.dtype)
