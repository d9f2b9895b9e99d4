"""Converts all 30 published checkpoints, at full size, into their networks.

The weights themselves are not here: names and shapes are those of layouts.py,
values are zeros.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published import CHECKPOINTS

from solo_jax.building import build_method
from solo_jax.checkpoints.state import count_parameters
from solo_jax.conversion.checkpoint_file import Source
from solo_jax.conversion.converter import convert_source, suggest_config
from solo_jax.conversion.families import find_family
from solo_jax.conversion.recognition import recognize
from solo_jax.weights import load_config
from tests.network_parts import without_backbone


def padded_size(rule):
  """Padded size of a landscape image that meets both limits of the resize."""
  multiple = rule.pad_multiple
  return tuple(
    -(-side // multiple) * multiple for side in (rule.short_side, rule.max_side)
  )


@pytest.fixture(scope="module")
def trace():
  """Returns the shapes of variables and detections of a config's network.

  Each backbone and what is behind it is traced once: many checkpoints share
  one. Values play no role: bytes take a quarter of the memory.
  """
  results = {}

  def traced(config, size):
    method = build_method(config)
    network, backbone = without_backbone(method.network)

    def run(image, image_size):
      outputs, variables = network.init_with_output(
        jax.random.key(0), image, image_size, train=False
      )
      return variables, method.decode(outputs, image_size)

    key = repr(network), repr(config.decode), size
    if key not in results:
      results[key] = jax.eval_shape(
        run,
        jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8),
        jax.ShapeDtypeStruct((1, 2), jnp.int32),
      )
    variables, decoded = results[key]
    variables = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, jnp.int8),
      backbone.add_to(variables),
    )
    return variables, decoded

  return traced


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda x: x.name)
def test_nothing_is_left_over(checkpoint, trace, record_property):
  config = load_config(checkpoint.config)
  arrays = checkpoint.state_dict()
  family = find_family(None, arrays)
  suggested = suggest_config(family, recognize(family, arrays))
  path, _, argument = suggested.partition(":")
  name, _, expected = checkpoint.config.partition(":")
  assert path == f"configs/{name}"
  assert set(argument.split(",")) <= set(expected.split(","))

  source = Source(arrays=arrays, class_names=None, notes=())
  size = padded_size(config.preprocessing)
  variables, decoded = trace(config, size)
  conversion = convert_source(source, config, lambda config: variables)
  assert [number for number, _ in conversion.classes][-1] == 90
  counters = [x for x in arrays if x.endswith(".num_batches_tracked")]
  leaves = jax.tree.leaves(conversion.variables)
  assert len(leaves) == len(arrays) - len(counters)
  assert sum(x.size for x in leaves) == sum(
    np.prod(x.shape, dtype=int)
    for name, x in arrays.items()
    if name not in counters
  )
  megabytes = sum(x.size for x in leaves) * 4 / 1e6
  assert checkpoint.megabytes == round(megabytes)
  detections = config.decode.max_detections
  assert decoded.scores.shape == decoded.labels.shape == (1, detections)
  assert decoded.masks.probs.shape == (
    1,
    detections,
    size[0] // 4,
    size[1] // 4,
  )
  record_property(
    "published",
    {
      "family": checkpoint.family,
      "checkpoint": checkpoint.name,
      "config": checkpoint.config,
      "AP, published": checkpoint.published_ap,
      "tensors": len(leaves),
      "dropped": len(counters),
      "parameters": f"{count_parameters(conversion.variables['params']):,}",
      "input": "x".join(map(str, size)),
      "masks": "x".join(map(str, decoded.masks.probs.shape[1:])),
    },
  )
