"""The network of every config file is traced, not run.

Its backbone is traced once for all configs that have it, on a small image.
It takes the config's shapes, and its size-keeping convolutions have the fast
kernel gradient. Other recipes of a COCO config are traced where published
weights are converted: tests/conversion/.
"""

import collections

import jax
import jax.numpy as jnp
import pytest
from jaxprs import equations

from solo_jax.building import build_method
from solo_jax.methods.mask2former.network import MASK_STRIDE
from tests.config_test import ALL, load
from tests.network_parts import without_backbone

TRACED = [
  (name, arg)
  for i, (name, arg) in enumerate(ALL)
  if not name.endswith("_coco") or name not in dict(ALL[:i])
]


def could_be_same_conv(equation):
  """Whether an XLA convolution is one that `same_conv2d` computes."""
  params, kernel = equation.params, equation.invars[1].aval.shape
  numbers = params["dimension_numbers"].rhs_spec
  height, width = (kernel[i] for i in numbers[2:])
  return (
    len(set(params["window_strides"])) == 1
    and params["feature_group_count"] == 1
    and params["rhs_dilation"] == (1, 1)
    and height == width
    and height % 2 == 1
    and [tuple(p) for p in params["padding"]] == [(height // 2,) * 2] * 2
  )


@pytest.mark.parametrize(("name", "arg"), TRACED)
def test_shapes_and_convolutions(name, arg):
  config = load(name, arg)
  method = build_method(config)
  network, backbone = without_backbone(method.network)
  size = config.transforms.image_size
  image = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
  image_size = jax.ShapeDtypeStruct((1, 2), jnp.int32)

  def predict(image, image_size):
    outputs, _ = network.init_with_output(
      jax.random.key(0), image, image_size, train=False
    )
    return method.decode(outputs, image_size)

  jaxpr, decoded = jax.make_jaxpr(predict, return_shape=True)(image, image_size)
  check_shapes(decoded, config)
  counts = collections.Counter(
    "left" if e.primitive.name == "conv_general_dilated" else "taken"
    for e in (*equations(jaxpr.jaxpr), *equations(backbone.jaxpr))
    if e.primitive.name == "plain_conv"
    or (e.primitive.name == "conv_general_dilated" and could_be_same_conv(e))
  )
  assert counts["left"] == 0
  assert counts["taken"] >= 5


def check_shapes(decoded, config):
  number = config.decode.max_detections
  if config.transforms.mask_frame == "box":
    assert decoded.masks.boxes_xyxy.shape == (1, number, 4)
    assert decoded.masks.probs.shape[:2] == (1, number)
    return
  stride = config.transforms.mask_stride
  if config.method == "mask2former":
    stride = MASK_STRIDE  # of its masks; targets may be finer
  size = tuple(side // stride for side in config.transforms.image_size)
  if config.method == "yolact":  # twice P3's, also if 8 is not a divisor
    size = tuple(2 * -(-side // 8) for side in config.transforms.image_size)
  assert decoded.masks.probs.shape == (1, number, *size)


def test_network_has_forward_derivatives():
  """`jax.jvp` through backbone, pyramid, heads and their resizes."""
  network = build_method(load("solov2_own_data")).network
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
