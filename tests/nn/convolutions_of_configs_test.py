"""Every config's size-keeping convolutions have the fast kernel gradient.

The network of each config is traced, not run, and its convolutions counted.
"""

import collections
import pathlib
import runpy

import jax
import jax.numpy as jnp
import pytest
from jaxprs import equations

from solo_jax.building import build_method

CONFIGS = sorted(pathlib.Path(__file__).parents[2].glob("configs/*.py"))


def could_be_same_conv(equation):
  """Whether an XLA convolution is one that `same_conv2d` computes."""
  params, kernel = equation.params, equation.invars[1].aval.shape
  numbers = params["dimension_numbers"].rhs_spec
  height, width = (kernel[i] for i in numbers[2:])
  return (
    params["window_strides"] == (1, 1)
    and params["feature_group_count"] == 1
    and params["rhs_dilation"] == (1, 1)
    and height == width
    and height % 2 == 1
    and [tuple(p) for p in params["padding"]] == [(height // 2,) * 2] * 2
  )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_no_convolution_is_left_to_the_slow_gradient(path):
  config = runpy.run_path(str(path))["get_config"]("")
  network = build_method(config).network
  image = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.uint8)
  size = jax.ShapeDtypeStruct((1, 2), jnp.int32)

  def run(image, size):
    variables = network.init(jax.random.key(0), image, size, train=False)
    return network.apply(variables, image, size, train=False)

  counts = collections.Counter(
    "left" if e.primitive.name == "conv_general_dilated" else "taken"
    for e in equations(jax.make_jaxpr(run)(image, size).jaxpr)
    if e.primitive.name == "plain_conv"
    or (e.primitive.name == "conv_general_dilated" and could_be_same_conv(e))
  )
  assert counts["left"] == 0
  assert counts["taken"] >= 10


def test_network_has_forward_derivatives():
  """`jax.jvp` through backbone, pyramid, heads and their resizes."""
  path = next(p for p in CONFIGS if p.stem == "solov2_own_data")
  config = runpy.run_path(str(path))["get_config"]("")
  network = build_method(config).network
  image = jnp.zeros((1, 64, 64, 3), jnp.uint8)
  size = jnp.full((1, 2), 64)

  def run(key):
    variables = network.init(key, image, size, train=False)

    def outputs(params):
      return network.apply(
        {**variables, "params": params}, image, size, train=False
      )

    return jax.jvp(outputs, (variables["params"],), (variables["params"],))

  values, tangents = jax.eval_shape(run, jax.random.key(0))
  assert jax.tree.map(jnp.shape, values) == jax.tree.map(jnp.shape, tangents)
