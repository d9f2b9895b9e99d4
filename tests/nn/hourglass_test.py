"""Tests of solo_jax/nn/hourglass.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.nn.hourglass import Hourglass, StackedHourglass

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def hourglass():
  """An hourglass of 2 halvings and its variables."""
  module = Hourglass(channels=4, depth=2, num_groups=2)
  return module, jax.jit(module.init)(KEY, jnp.zeros((1, 8, 8, 4)))


def test_parameters_are_those_of_four_convolutions_a_level(hourglass):
  _, variables = hourglass
  names = {
    f"{part}_{level}" for part in ("skip", "down", "up") for level in range(2)
  }
  assert set(variables["params"]) == names | {"bottom"}


@pytest.mark.parametrize("size", [(7, 5), (1, 2)])
def test_every_size_comes_back(hourglass, size):
  module, variables = hourglass
  x = jax.random.normal(KEY, (2, *size, 4))
  assert module.apply(variables, x).shape == (2, *size, 4)


def test_gradient_reaches_every_parameter(hourglass):
  module, variables = hourglass
  x = jax.random.normal(KEY, (1, 8, 8, 4))
  gradient = jax.jit(jax.grad(lambda v: jnp.sum(module.apply(v, x) ** 2)))(
    variables
  )
  for path, leaf in jax.tree.leaves_with_path(gradient):
    assert np.abs(leaf).max() > 0, path


def test_stacks_are_residual(hourglass):
  module, variables = hourglass
  x = jax.random.normal(KEY, (1, 8, 8, 4))
  none = StackedHourglass(num_stacks=0, channels=4, depth=2, num_groups=2)
  np.testing.assert_array_equal(none.apply({}, x), x)
  two = StackedHourglass(num_stacks=2, channels=4, depth=2, num_groups=2)
  stacked = {f"hourglass_{i}": variables["params"] for i in range(2)}
  apply = jax.jit(module.apply)
  y = x + apply(variables, x)
  np.testing.assert_allclose(
    jax.jit(two.apply)({"params": stacked}, x),
    y + apply(variables, y),
    rtol=1e-5,
    atol=1e-6,
  )
