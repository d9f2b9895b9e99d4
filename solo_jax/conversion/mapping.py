"""Renames and transposes foreign weights by a table, strict in both directions.

A table maps a regular expression over source names to a target path and a
transform. Every source array must match exactly one rule, every target array
must be filled exactly once, and all shapes must agree; all mismatches are
reported in one error.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from solo_jax.errors import UserError

# Axis orders that turn a source array into the target's.
COPY = None
CONV = (2, 3, 1, 0)  # OIHW to HWIO; depthwise OIHW with I = 1 as well
DENSE = (1, 0)  # out, in to in, out
_MAX_LISTED = 200  # problems of one message
Transform = tuple[int, ...] | Callable[[np.ndarray], np.ndarray] | None


@dataclasses.dataclass(frozen=True)
class Rule:
  r"""One row of a table.

  Attributes:
    source: Regular expression that must match a whole source name.
    target: '/'-separated path in the target tree, with \1, \2 ... for the
      groups of `source`; None drops the array on purpose.
    transform: Axis order of the target: COPY, CONV or DENSE; or a function of
      the array, which raises ValueError if it does not fit.
  """

  source: str
  target: str | None
  transform: Transform = COPY


def layer_norm_rules(source: str, target: str) -> tuple[Rule, Rule]:
  r"""Returns the rules of a layer norm or group norm.

  Args:
    source: Regular expression of the layer's name, before '.weight'.
    target: Path of the layer below 'params'.

  Returns:
    Rules for scale and bias.
  """
  return (
    Rule(rf"{source}\.weight", f"params/{target}/scale"),
    Rule(rf"{source}\.bias", f"params/{target}/bias"),
  )


def norm_rules(source: str, target: str) -> tuple[Rule, ...]:
  r"""Returns the rules of a norm that may have running statistics.

  Args:
    source: Regular expression of the layer's name, before '.weight'.
    target: Path of the layer below 'params' and 'batch_stats'.

  Returns:
    Rules for scale, bias, mean and variance.
  """
  return (
    *layer_norm_rules(source, target),
    Rule(rf"{source}\.running_mean", f"batch_stats/{target}/mean"),
    Rule(rf"{source}\.running_var", f"batch_stats/{target}/var"),
    # A step counter for a kind of momentum that no checkpoint here uses.
    Rule(rf"{source}\.num_batches_tracked", None),
  )


def conv_rules(source: str, target: str) -> tuple[Rule, Rule]:
  r"""Returns the rules of a convolution with bias.

  Args:
    source: Regular expression of the layer's name, before '.weight'.
    target: Path of the layer below 'params'.

  Returns:
    Rules for kernel and bias.
  """
  return (
    Rule(rf"{source}\.weight", f"params/{target}/kernel", CONV),
    Rule(rf"{source}\.bias", f"params/{target}/bias"),
  )


def dense_rules(source: str, target: str) -> tuple[Rule, Rule]:
  r"""Returns the rules of a dense layer with bias.

  Args:
    source: Regular expression of the layer's name, before '.weight'.
    target: Path of the layer below 'params'.

  Returns:
    Rules for kernel and bias.
  """
  return (
    Rule(rf"{source}\.weight", f"params/{target}/kernel", DENSE),
    Rule(rf"{source}\.bias", f"params/{target}/bias"),
  )


def conv_norm_rules(conv: str, norm: str, target: str) -> tuple[Rule, ...]:
  r"""Returns the rules of a `ConvGN`, plain or deformable.

  Args:
    conv: Regular expression of the convolution's name, before '.weight'; its
      offsets are the convolution `conv_offset` below it.
    norm: Regular expression of the group norm's name; groups as in `conv`.
    target: Path of the `ConvGN` below 'params'.

  Returns:
    The rules.
  """
  return (
    Rule(rf"{conv}\.weight", f"params/{target}/conv/kernel", CONV),
    *conv_rules(rf"{conv}\.conv_offset", f"{target}/conv/offset"),
    *layer_norm_rules(norm, f"{target}/norm"),
  )


def route(
  arrays: Mapping[str, np.ndarray], rules: Sequence[Rule]
) -> dict[str, np.ndarray]:
  """Returns source arrays by target path, as far as the table covers them.

  Args:
    arrays: Source arrays by name.
    rules: The table.

  Returns:
    The arrays of known names by target path, axes as in the source.
  """
  routed, _ = _route(arrays, rules)
  return {path: arrays[name] for name, path, _ in routed}


def dropped(
  arrays: Mapping[str, np.ndarray], rules: Sequence[Rule]
) -> list[str]:
  """Returns the source arrays that the table drops on purpose."""
  patterns = [re.compile(rule.source) for rule in rules if rule.target is None]
  return [name for name in arrays if any(p.fullmatch(name) for p in patterns)]


def convert(
  arrays: Mapping[str, np.ndarray],
  rules: Sequence[Rule],
  target: Mapping[str, Any],
) -> dict[str, Any]:
  """Returns a tree of variables filled from foreign weights.

  Args:
    arrays: Source arrays by name, any float dtype.
    rules: The table.
    target: Nested dict whose leaves have `shape` and `dtype`: variables, or
      what `jax.eval_shape` of a network's `init` returns.

  Returns:
    Nested dict of the structure, shapes and dtypes of `target`. NumPy arrays,
    C-contiguous.

  Raises:
    UserError: If a source array is unused or matches several rules, a target
      array is unfilled or filled twice, shapes differ, or numbers are whole.
  """
  leaves = flatten(target)
  routed, problems = _route(arrays, rules)
  filled: dict[str, np.ndarray] = {}
  sources = collections.defaultdict(list)
  for name, path, transform in routed:
    array = arrays[name]
    sources[path].append(name)
    if path not in leaves:
      problems.append(f"{name} {array.shape}: the network has no {path}")
      continue
    try:
      array = _transformed(array, transform)
    except ValueError as error:
      problems.append(f"{name} {array.shape}: does not fit {path}: {error}")
      continue
    if array.dtype.kind in "biu" and leaves[path].dtype.kind == "f":
      problems.append(f"{name}: {array.dtype} numbers; {path} needs floats")
      continue
    if array.shape != leaves[path].shape:
      problems.append(
        f"{name}: gives shape {array.shape}, "
        f"{path} needs {tuple(leaves[path].shape)}"
      )
      continue
    with np.errstate(over="ignore"):  # what overflows is infinite then
      filled[path] = np.array(array, dtype=leaves[path].dtype, order="C")
  for path, names in sources.items():
    if len(names) > 1:
      problems.append(f"{path}: filled by each of {names}")
  for path, leaf in leaves.items():
    if path not in sources:
      problems.append(f"{path} {tuple(leaf.shape)}: not in the checkpoint")
  if problems:
    more = len(problems) - _MAX_LISTED
    raise UserError(
      f"the checkpoint does not fit the network in {len(problems)} places; "
      "check depth, widths and number of classes:\n  "
      + "\n  ".join(problems[:_MAX_LISTED])
      + (f"\n  and {more} more" if more > 0 else "")
    )
  return unflatten(filled)


def _transformed(array: np.ndarray, transform: Transform) -> np.ndarray:
  if callable(transform):
    return transform(array)
  if transform is not COPY and array.ndim == len(transform):
    return array.transpose(transform)
  return array


def _route(
  arrays: Mapping[str, np.ndarray], rules: Sequence[Rule]
) -> tuple[list[tuple[str, str, Transform]], list[str]]:
  """Returns (source name, target path, transform) of each array, and problems.

  Dropped arrays are in neither list.
  """
  patterns = [(re.compile(rule.source), rule) for rule in rules]
  routed, problems = [], []
  for name, array in arrays.items():
    matches = [
      (match, rule)
      for pattern, rule in patterns
      if (match := pattern.fullmatch(name))
    ]
    if len(matches) == 1:
      match, rule = matches[0]
      if rule.target is not None:
        routed.append((name, match.expand(rule.target), rule.transform))
    elif matches:
      found = [rule.source for _, rule in matches]
      problems.append(
        f"{name} {array.shape}: matches {len(found)} rules: {found}"
      )
    else:
      problems.append(f"{name} {array.shape}: matches no rule")
  return routed, problems


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
  """Returns {'/'-separated path: leaf} of a nested dict."""
  leaves = {}
  for name, value in tree.items():
    if isinstance(value, Mapping):
      for path, leaf in flatten(value).items():
        leaves[f"{name}/{path}"] = leaf
    else:
      leaves[name] = value
  return leaves


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the nested dict of {'/'-separated path: leaf}."""
  tree: dict[str, Any] = {}
  for path, leaf in leaves.items():
    *parents, last = path.split("/")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[last] = leaf
  return tree
