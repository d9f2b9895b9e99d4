"""Writes a program as ONNX through jax2onnx, which is an extra.

The converter knows no platforms. Where solo_jax has a formulation for each
(`jax.lax.platform_dependent`), the program is traced with the one for the
platforms that are not named.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np


def write_onnx(
  program: Callable[..., tuple],
  weights: Sequence[np.ndarray],
  inputs: Sequence[jax.ShapeDtypeStruct],
  names: Sequence[str],
  path: pathlib.Path,
) -> None:
  """Converts a program, its weights inside.

  Args:
    program: (weights, *inputs) -> arrays.
    weights: Of the network.
    inputs: Shapes of the other arguments.
    names: Names for the results.
    path: File to write.

  Raises:
    ModuleNotFoundError: If jax2onnx is not installed.
    ValueError: If the converter does not know an operation.
  """
  try:
    import jax2onnx
    import onnx
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      "--onnx needs jax2onnx: pip install 'solo_jax[onnx]'"
    ) from error
  weights = [jnp.asarray(x) for x in weights]  # NumPy has no traced indices
  with _default_platform():
    closed = jax.make_jaxpr(lambda *x: program(weights, *x))(*inputs)
  # Traced here, so that the converter sees primitives and not the functions of
  # jax.numpy that it would replace by its own.
  model = jax2onnx.to_onnx(jax.extend.core.jaxpr_as_fun(closed), inputs=inputs)
  _rename_outputs(model.graph, names)
  onnx.checker.check_model(model)
  onnx.save(model, path)


def _rename_outputs(graph, names: Sequence[str]) -> None:
  """Gives the results of a graph names, by a node more for each."""
  for output, name in zip(graph.output, names, strict=True):
    graph.node.add(op_type="Identity", input=[output.name], output=[name])
    output.name = name


@contextlib.contextmanager
def _default_platform() -> Iterator[None]:
  def choose(*arguments, default, **others):
    return default(*arguments)

  with mock.patch.object(jax.lax, "platform_dependent", choose):
    yield
