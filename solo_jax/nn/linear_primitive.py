"""Linear functions of arrays that define their own transposes.

Reverse-mode differentiation transposes linear functions. If XLA's way of
computing a transpose is slow, a function can define a better one here.
`jax.custom_vjp` would do that too, but does not support forward mode
(`jax.jvp`, Hessians); a primitive that is declared linear keeps derivatives of
every mode and order.
"""

import functools
from collections.abc import Callable, Sequence

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

# The function of each primitive, for tracers that do not know it (ONNX).
FORMULATIONS: dict[Primitive, Callable[..., jax.Array]] = {}


def linear_primitive(
  function: Callable[..., jax.Array],
  transposes: Sequence[Callable[..., jax.Array]],
) -> Callable[..., jax.Array]:
  """Returns a linear function whose transposes are the given ones.

  Args:
    function: (*arrays, **static) -> array; linear in each of the arrays while
      the others are fixed. The static arguments are hashable.
    transposes: For each of the arrays: (cotangent, *arrays, **static) -> the
      gradient by it, of its shape and dtype; the array itself is replaced by
      its shape and dtype.

  Returns:
    The same function, to be called with positional arrays.
  """
  primitive = Primitive(function.__name__.strip("_"))
  FORMULATIONS[primitive] = function

  def shape_of(*arrays, **static):
    out = jax.eval_shape(functools.partial(function, **static), *arrays)
    return arrays[0].update(shape=out.shape, dtype=out.dtype)

  @functools.cache
  def compiled(static):
    return jax.jit(functools.partial(function, **dict(static)))

  def compute(*arrays, **static):
    return compiled(tuple(static.items()))(*arrays)

  def batch(arrays, axes, **static):
    mapped = jax.vmap(functools.partial(function, **static), axes)
    return mapped(*arrays), 0

  def derivative(index):
    def jvp(tangent, *arrays, **static):
      return primitive.bind(
        *arrays[:index], tangent, *arrays[index + 1 :], **static
      )

    return jvp

  def transpose(cotangent, *arrays, **static):
    (index,) = (i for i, x in enumerate(arrays) if ad.is_undefined_primal(x))
    result = [None] * len(arrays)
    if type(cotangent) is not ad.Zero:
      known = [
        jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype) if i == index else x
        for i, x in enumerate(arrays)
      ]
      result[index] = transposes[index](cotangent, *known, **static)
    return result

  primitive.def_impl(compute)
  primitive.def_abstract_eval(shape_of)
  ad.defjvp(primitive, *map(derivative, range(len(transposes))))
  ad.primitive_transposes[primitive] = transpose
  batching.primitive_batchers[primitive] = batch
  mlir.register_lowering(
    primitive, mlir.lower_fun(function, multiple_results=False)
  )

  def call(*arrays: jax.Array, **static) -> jax.Array:
    return primitive.bind(*arrays, **static)  # looked up: tracers replace it

  return call
