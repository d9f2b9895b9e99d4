"""Finds instances that no query can represent.

Shape letters: N instances, Q queries.
"""

import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.interface import Capacity, LostInstances, Way
from solo_jax.methods.mask2former.perfect_outputs import cell_coverage

NO_QUERY = Way("no query", "beyond network.num_queries: not trained")
NO_CELL = Way(
  "no cell",
  "covers less than half of every mask cell: no mask can represent it",
)
QUERIES = Capacity("queries", ("network.num_queries",))


def lost_instances(batch: types.Batch, *, num_queries: int) -> LostInstances:
  """Returns instances beyond the queries or smaller than the masks' cells.

  Args:
    batch: Batch of one image.
    num_queries: Q.

  Returns:
    The lost instances.
  """
  valid = batch.valid[0]
  has_query = jnp.cumsum(valid) <= num_queries
  cells = jnp.sum(cell_coverage(batch.masks)[0] > 0.5, axis=(1, 2))
  return LostInstances(
    ways=(NO_QUERY, NO_CELL),
    is_lost=(valid & ~has_query, valid & has_query & (cells == 0)),
    capacities=(QUERIES,),
    taken=(valid.astype(jnp.int32),),
    sizes={"mask cells": cells},
  )
