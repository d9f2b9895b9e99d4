"""Tests of solo_jax/nn/group_norm.py."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.nn.group_norm import GroupNorm
from tests.random_variables import random_variables


@pytest.fixture(scope="module")
def maps():
  """Channels of different means and variances, two of them empty."""
  rng = np.random.default_rng(0)
  x = rng.normal(rng.normal(size=12) * 3, rng.random(12), (2, 5, 7, 12))
  x[..., 4:6] = 0.0
  return np.float32(x)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_is_flax_own_with_its_gradients(maps, dtype):
  theirs = nn.GroupNorm(6, epsilon=1e-5, dtype=dtype)
  ours = GroupNorm(6, dtype=dtype)
  maps = jnp.asarray(maps, dtype)
  params, expected = (random_variables(x.init, maps) for x in (ours, theirs))
  assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, expected)
  params = jax.tree.map(
    lambda x: x + np.cos(np.arange(x.size, dtype="f")), params
  )

  @jax.jit
  def run(params, x):
    found = []
    for layer in (ours, theirs):
      y, pull_back = jax.vjp(layer.apply, params, x)
      found.append((y, *pull_back(jnp.sin(y * 3))))
    return found

  ours, theirs = run(params, maps)
  assert ours[0].dtype == dtype
  tolerance = 1e-4 if dtype == jnp.float32 else 2e-2
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    a, b = np.float32(a), np.float32(b)
    np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max())


def test_groups_are_checked(maps):
  with pytest.raises(ValueError, match="12 channels are not a multiple of 5"):
    GroupNorm(5).init(jax.random.key(0), maps)
