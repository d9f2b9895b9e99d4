"""Tests of solo_jax/nn/linear_primitive.py, on a matrix product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.nn.linear_primitive import FORMULATIONS, linear_primitive

calls = []


def _scaled_product(x, y, *, factor):
  return factor * (x @ y)


def _by_x(gradient, x, y, *, factor):
  calls.append(("x", x.shape, x.dtype))
  return factor * gradient @ y.T


def _by_y(gradient, x, y, *, factor):
  calls.append(("y", y.shape, y.dtype))
  return factor * x.T @ gradient


product = linear_primitive(_scaled_product, (_by_x, _by_y))


def ours(x, y):
  return product(x, y, factor=3.0)


def plain(x, y):
  return 3.0 * (x @ y)


@pytest.fixture
def arrays():
  rng = np.random.default_rng(0)
  return np.float32(rng.normal(size=(4, 3))), np.float32(
    rng.normal(size=(3, 2))
  )


DERIVED = {
  "value": lambda f: f,
  "compiled": jax.jit,
  "forward": lambda f: lambda x, y: jax.jvp(f, (x, y), (x + 1, y - 1)),
  "reverse": lambda f: jax.grad(lambda x, y: jnp.sum(f(x, y) ** 2), (0, 1)),
  "hessian": lambda f: jax.hessian(lambda x, y: jnp.sum(jnp.sin(f(x, y))), 1),
  "mapped": lambda f: lambda x, y: jax.vmap(f, (0, None))(x[:, None], y),
  "mapped kernel": lambda f: (
    lambda x, y: jax.vmap(f, (None, 0))(x, jnp.stack([y, y + 1]))
  ),
  "reverse of mapped": lambda f: jax.grad(
    lambda x, y: jnp.sum(jax.vmap(f, (0, None))(x[:, None], y) ** 2), (0, 1)
  ),
}


@pytest.mark.parametrize("name", DERIVED)
def test_every_transformation_gives_what_the_plain_function_gives(name, arrays):
  found = DERIVED[name](ours)(*arrays)
  expected = DERIVED[name](plain)(*arrays)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    found,
    expected,
  )


def test_gradients_are_the_stated_transposes(arrays):
  calls.clear()
  jax.grad(lambda x, y: jnp.sum(ours(x, y)), (0, 1))(*arrays)
  assert sorted(calls) == [
    ("x", (4, 3), np.float32),
    ("y", (3, 2), np.float32),
  ]
  calls.clear()
  jax.grad(lambda x: jnp.sum(ours(x, arrays[1])))(arrays[0])
  assert [name for name, *_ in calls] == ["x"]


def test_formulation_is_known_for_other_tracers():
  (function,) = (f for p, f in FORMULATIONS.items() if f is _scaled_product)
  assert function(np.eye(2), np.eye(2), factor=2.0)[0, 0] == 2
