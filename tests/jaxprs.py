"""Reads traced programs, for tests that count or measure operations."""

from collections.abc import Iterator

import jax


def equations(jaxpr) -> Iterator:
  """Yields all equations of a jaxpr, those of inner programs too."""
  for equation in jaxpr.eqns:
    yield equation
    for inner in jax.tree.leaves(
      list(equation.params.values()),
      is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr"),
    ):
      inner = getattr(inner, "jaxpr", inner)  # a closed one holds another
      if hasattr(inner, "eqns"):
        yield from equations(inner)
