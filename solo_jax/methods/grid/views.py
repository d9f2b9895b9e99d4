"""Pictures of the cells that instances are trained in.

Shape letters: B images, H, W padded input, N instances, S cells per side of a
level.
"""

import jax
import jax.numpy as jnp

FILL, LINE = 0.5, 0.8  # opacity of a cell's colour and of its white outline


def draw_cells(
  image: jax.Array, owner: tuple[jax.Array, ...], colors: jax.Array
) -> jax.Array:
  """Returns pictures with the cells of each instance filled in its colour.

  Args:
    image: [B, H, W, 3] uint8.
    owner: Instance of each cell, -1 for none. One [B, S, S] per level.
    colors: RGB of the instances. [N, 3] float32 in [0, 1].

  Returns:
    RGB pictures. [B, H, W, 3] float32 in [0, 1].
  """
  picture = image.astype(jnp.float32) / 255
  height, width = image.shape[1:3]
  for level in owner:
    num_grid = level.shape[1]
    row, is_row_edge = _locate(height, num_grid)
    column, is_column_edge = _locate(width, num_grid)
    instance = level[:, row[:, None], column[None]][..., None]  # [B, H, W, 1]
    is_edge = (is_row_edge[:, None] | is_column_edge[None])[..., None]
    color = jnp.where(is_edge, 1.0, colors[instance[..., 0]])
    opacity = jnp.where(is_edge, LINE, FILL)
    blended = picture + opacity * (color - picture)
    picture = jnp.where(instance >= 0, blended, picture)
  return picture


def _locate(length, num_grid):
  """Returns the cell of each pixel of an axis, and whether it is its rim."""
  cell = jnp.arange(length) * num_grid // length
  if length < 4 * num_grid:  # all pixels would be rim
    return cell, jnp.zeros(length, bool)
  inner = cell[1:] == cell[:-1]
  one = jnp.ones(1, bool)
  is_first = jnp.concatenate([one, ~inner])
  is_last = jnp.concatenate([~inner, one])
  return cell, is_first | is_last
