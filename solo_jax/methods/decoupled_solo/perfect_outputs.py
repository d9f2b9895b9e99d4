"""The targets of Decoupled SOLO as factors of its masks.

Shape letters: N instances, S cells per side of a level, h and w mask
resolution.
"""

import jax
import jax.numpy as jnp

from solo_jax.methods.grid.perfect_outputs import logit
from solo_jax.methods.solo.network import LevelFactor
from solo_jax.methods.solo.perfect_outputs import pick_maps


def column_and_row(
  weights: jax.Array, owner: jax.Array
) -> tuple[LevelFactor, LevelFactor]:
  """Returns the factors of a level: what each column and each row must show.

  Args:
    weights: [N, h, w] float32.
    owner: [S, S] int32.

  Returns:
    The factor of columns and that of rows; their product is the mask where
    no other instance is in both.
  """
  num_grid, num_instances = owner.shape[0], weights.shape[0]
  roots = jnp.sqrt(weights)
  has = jax.nn.one_hot(owner, num_instances, dtype=bool)  # [S, S, N]

  def union(members):  # [N] -> [h, w]
    return jnp.max(jnp.where(members[:, None, None], roots, 0.0), axis=0)

  row, column = (x.ravel() for x in jnp.mgrid[:num_grid, :num_grid])
  columns = jax.lax.map(union, has.any(0))
  rows = jax.lax.map(union, has.any(1))
  return (
    pick_maps(logit(columns), column),
    pick_maps(logit(rows), row),
  )
