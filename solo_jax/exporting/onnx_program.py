"""Writes a program as ONNX with jax2onnx, an optional dependency.

The converter supports no platforms, no switch of more than two branches and no
branches inside a loop. Therefore, `jax.lax.platform_dependent` is traced with
the default formulation, linear primitives as the functions they compute, a
`jax.lax.switch` as nested choices of two, and the images of a batch
(`jax.lax.map`) one after the other.
"""

import contextlib
import functools
import operator
import pathlib
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from solo_jax.errors import UserError
from solo_jax.nn.linear_primitive import FORMULATIONS


def write_onnx(
  program: Callable[..., tuple],
  weights: Sequence[np.ndarray],
  inputs: Sequence[jax.ShapeDtypeStruct],
  names: Sequence[str],
  path: pathlib.Path,
) -> None:
  """Converts a program and includes its weights.

  Args:
    program: (weights, *inputs) -> arrays.
    weights: Weights of the network.
    inputs: Shapes of the other arguments.
    names: Names for the results.
    path: File to write.

  Raises:
    UserError: If jax2onnx is not installed or does not support an operation.
  """
  try:
    import jax2onnx
    import onnx
    from jax2onnx.plugins import plugin_system
  except ModuleNotFoundError as error:
    raise UserError(
      "--onnx needs jax2onnx and onnx: pip install --no-deps -r "
      "requirements-extras.lock"
    ) from error
  weights = [jnp.asarray(x) for x in weights]  # NumPy has no traced indices
  with _known_control_flow():
    closed = jax.make_jaxpr(lambda *x: program(weights, *x))(*inputs)
  # Traced here, so that the converter sees primitives and does not replace
  # functions of jax.numpy by its own.
  plugin_system.import_all_plugins()
  plugins = plugin_system.PLUGIN_REGISTRY
  function = jax.extend.core.jaxpr_as_fun(closed)
  try:
    # Of `jnp.searchsorted`; the same for numbers other than NaN.
    with mock.patch.dict(plugins, le_to=plugins["le"]):
      model = jax2onnx.to_onnx(function, inputs=inputs)
  except NotImplementedError as error:
    raise UserError(f"--onnx: {error}") from error
  _rename_outputs(model.graph, names)
  onnx.checker.check_model(model)
  onnx.save(model, path)


def _rename_outputs(graph, names: Sequence[str]) -> None:
  """Names the results of a graph by adding a node for each."""
  for output, name in zip(graph.output, names, strict=True):
    graph.node.add(op_type="Identity", input=[output.name], output=[name])
    output.name = name


@contextlib.contextmanager
def _known_control_flow() -> Iterator[None]:
  def choose(*arguments, default, **others):
    return default(*arguments)

  def switch(index, branches, *operands):
    *others, rest = branches
    for position, branch in reversed([*enumerate(others)]):
      rest = functools.partial(jax.lax.cond, index <= position, branch, rest)
    return rest(*operands)

  loop = jax.lax.map

  def images(function, xs, **options):
    if options:
      return loop(function, xs, **options)
    num = len(jax.tree.leaves(xs)[0])
    each = [jax.tree.map(operator.itemgetter(i), xs) for i in range(num)]
    return jax.tree.map(lambda *x: jnp.stack(x), *map(function, each))

  with contextlib.ExitStack() as stack:
    patch = mock.patch.object
    stack.enter_context(patch(jax.lax, "map", images))
    stack.enter_context(patch(jax.lax, "platform_dependent", choose))
    stack.enter_context(patch(jax.lax, "switch", switch))
    for primitive, function in FORMULATIONS.items():
      stack.enter_context(patch(primitive, "bind", function))
    # JAX keeps the traces of functions under `jax.jit`: older ones must not be
    # used here, and these must not be used elsewhere.
    jax.clear_caches()
    stack.callback(jax.clear_caches)
    yield
