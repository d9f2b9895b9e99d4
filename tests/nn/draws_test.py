"""Tests of solo_jax/nn/draws.py."""

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.nn.draws import row_keys


def draw(key, row):
  return jax.vmap(lambda key: jax.random.uniform(key, (3,)))(row_keys(key, row))


def test_a_row_draws_the_same_in_any_batch():
  key = jax.random.key(3)
  whole = draw(key, jnp.arange(8))
  assert len(np.unique(whole)) == 24
  part = draw(key, jnp.array([6, 1]))
  np.testing.assert_array_equal(part, whole[jnp.array([6, 1])])
  assert not np.any(draw(jax.random.key(4), jnp.arange(8)) == whole)
