"""Initialises a run with the weights of another one, as far as they fit."""

import collections
from collections.abc import Iterable
from typing import Any

import flax.traverse_util
import numpy as np

from solo_jax.checkpoints.compatibility import check_tree


def take_fitting(
  variables: dict[str, Any], saved: dict[str, Any], path: str
) -> tuple[dict[str, Any], list[str], tuple[str, ...]]:
  """Returns the saved arrays whose name and shape match the network.

  A head with another number of classes thus keeps its initial values, and so
  does everything but the backbone if only a backbone was saved. A backbone must
  fit completely.

  Args:
    variables: Initial {'params', 'batch_stats'} of the network.
    saved: {'params', 'batch_stats'} to start from.
    path: The source of the weights, for messages.

  Returns:
    variables: Variables of the network's structure.
    lines: Arrays that were loaded, left at their initial values and not used,
    with shapes.
    fresh: Names of the modules with parameters at their initial values.

  Raises:
    UserError: If the saved backbone is a different one.
  """
  check_tree(
    {name: tree.get("backbone", {}) for name, tree in saved.items()},
    {name: tree.get("backbone", {}) for name, tree in variables.items()},
    f"cannot start from the backbone of {path}",
  )
  old, new = _flatten(saved), _flatten(variables)
  taken = {
    key: value
    for key, value in old.items()
    if key in new and np.shape(value) == np.shape(new[key])
  }
  tree = flax.traverse_util.unflatten_dict({**new, **taken}, sep="/")
  lines = [f"loaded {len(taken)} of {len(new)} arrays from {path}"]
  lines += [
    f"  fresh: {key} {np.shape(new[key])}, saved {np.shape(old[key])}"
    for key in new
    if key in old and key not in taken
  ]
  lines += _list_modules("fresh", {k: new[k] for k in new if k not in old})
  lines += _list_modules("not used", {k: old[k] for k in old if k not in new})
  fresh = _names_of_modules(key for key in new if key not in taken)
  return {**variables, **tree}, lines, fresh


def _names_of_modules(arrays: Iterable[str]) -> tuple[str, ...]:
  """Returns the modules with parameters among 'collection/module/...'."""
  modules = {key.split("/")[1] for key in arrays if key.startswith("params/")}
  return tuple(sorted(modules))


def _flatten(tree: dict[str, Any]) -> dict[str, Any]:
  return flax.traverse_util.flatten_dict(tree, sep="/")


def _list_modules(title: str, arrays: dict[str, Any]) -> list[str]:
  """Returns arrays with their shapes, one line per module."""
  modules = collections.defaultdict(list)
  for key, value in arrays.items():
    collection, module, *rest = key.split("/")
    modules[f"{collection}/{module}"].append(
      f"{'/'.join(rest)} {np.shape(value)}"
    )
  return [
    f"  {title}: {module}: {', '.join(entries)}"
    for module, entries in modules.items()
  ]
