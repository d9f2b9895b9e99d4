"""Tests of solo_jax/methods/queries/matching.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from solo_jax.methods.queries.matching import match


def best_total(costs):
  rows, columns = scipy.optimize.linear_sum_assignment(costs)
  return costs[rows, columns].sum()


@pytest.fixture(scope="module")
def problems():
  """Costs of 3 x 8 problems and how many of the rows are real."""
  rng = np.random.default_rng(0)
  costs = rng.standard_normal((3, 8, 9, 12)).astype("f")
  costs += 40 * rng.random((3, 8, 1, 12)).astype("f")  # rows compete
  num_valid = rng.integers(0, 10, (3, 8))
  num_valid[0, :3] = 0, 1, 9
  return costs, num_valid


def test_totals_are_scipys(problems):
  costs, num_valid = problems
  valid = np.arange(9) < num_valid[..., None]
  queries = np.asarray(jax.jit(match)(costs, valid))
  for index in np.ndindex(*num_valid.shape):
    n, query = num_valid[index], queries[index]
    assert len(set(query.tolist())) == 9  # padded rows take others
    total = costs[index][np.arange(n), query[:n]].sum()
    expected = best_total(costs[index][:n])
    np.testing.assert_allclose(total, expected, rtol=1e-6, atol=1e-5)


def test_padding_may_be_anywhere_and_hold_anything(problems):
  costs = np.asarray(problems[0][0, 0])
  valid = np.asarray([True, False, True, True, False, True, True, True, False])
  padded = np.where(valid[:, None], costs, np.nan)
  query = np.asarray(jax.jit(match)(padded, valid))
  rows, columns = scipy.optimize.linear_sum_assignment(costs[valid])
  np.testing.assert_array_equal(query[np.flatnonzero(valid)][rows], columns)


def test_a_cost_that_is_no_number_is_avoided():
  costs = jnp.asarray([[jnp.nan, 3.0, jnp.inf], [1.0, 2.0, 4.0]])
  query = jax.jit(match)(costs, np.ones(2, bool))
  np.testing.assert_array_equal(query, [1, 0])


def test_more_rows_than_queries_are_refused():
  with pytest.raises(ValueError, match="keep 2"):
    match(jnp.zeros((3, 2)), jnp.ones(3, bool))
