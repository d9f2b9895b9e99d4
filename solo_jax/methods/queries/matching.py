"""Assigns queries to instances, one to one, at the smallest total cost.

Shape letters: N instances (padded), Q queries.
"""

import jax
import jax.numpy as jnp
import optax.assignment

# Sums of these do not overflow; only diverged training reaches them.
LARGEST = 1e10


def match(costs: jax.Array, valid: jax.Array) -> jax.Array:
  """Returns the query of each instance, matched exactly.

  Padded instances have cost 0 for every query, so they get the remaining
  queries, as long as there are no more rows than queries. (A huge cost would
  reduce the precision of the others.)

  Args:
    costs: Costs of each pair, of an absolute value of at most LARGEST; a NaN
      counts as LARGEST. [..., N, Q] float32 with N <= Q.
    valid: False for padding. [..., N] bool.

  Returns:
    A different query for each row, padded ones too. [..., N] int32.

  Raises:
    ValueError: If there are more rows than queries.
  """
  *batch, rows, queries = costs.shape
  if rows > queries:
    raise ValueError(
      f"{rows} instances cannot have one of {queries} queries each; keep "
      f"{queries} of them"
    )
  costs = jnp.clip(jnp.nan_to_num(costs, nan=LARGEST), -LARGEST, LARGEST)
  costs = jnp.where(valid[..., None], costs, 0.0)

  def match_one(costs):
    row, query = optax.assignment.hungarian_algorithm(costs)
    return jnp.zeros(rows, jnp.int32).at[row].set(query.astype(jnp.int32))

  found = jax.vmap(match_one)(costs.reshape(-1, rows, queries))
  return found.reshape(*batch, rows)
