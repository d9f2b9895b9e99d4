"""Tests of solo_jax/conversion/queryinst.py.

That converted weights give mmdetection's outputs is tested with the network.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import queryinst_layouts

from solo_jax import published
from solo_jax.building import build_method
from solo_jax.checkpoints.state import count_parameters, variable_shapes
from solo_jax.conversion import queryinst
from solo_jax.conversion.checkpoint_file import Source
from solo_jax.conversion.converter import convert_source, suggest_config
from solo_jax.conversion.families import find_family
from solo_jax.conversion.mapping import route
from solo_jax.conversion.recognition import recognize
from solo_jax.weights import load_config
from tests.network_parts import without_backbone

NAMES = [
  row.name for row in published.PUBLISHED if row.name.startswith("queryinst_")
]
assert len(NAMES) == 8
# Counters of batch norm and a table of positions that follows from the window.
DROPPED = (".num_batches_tracked", ".relative_position_index")


def test_mmdetection_names_are_converted():
  box, mask = "roi_head.bbox_head.4.", "roi_head.mask_head.5."
  arrays = {
    f"{box}attention.attn.in_proj_weight": np.arange(12.0).reshape(6, 2),
    f"{box}cls_fcs.1.weight": np.zeros(2),
    f"{box}reg_fcs.6.weight": np.zeros((2, 2)),
    f"{box}instance_interactive_conv.fc_layer.bias": np.zeros(2),
    f"{mask}convs.3.bn.running_mean": np.zeros(2),
    f"{mask}upsample.weight": np.zeros((2, 3, 2, 2)),
    "rpn_head.init_proposal_features.weight": np.zeros((1, 2)),
  }
  found = route(queryinst.prepare(arrays), queryinst.MMDET)
  assert set(found) == {
    "params/boxes_4/attention/query/kernel",
    "params/boxes_4/attention/key/kernel",
    "params/boxes_4/attention/value/kernel",
    "params/boxes_4/category_norm_0/scale",
    "params/boxes_4/box_dense_2/kernel",
    "params/boxes_4/dynamic_conv/dense/bias",
    "batch_stats/masks_5/norm_3/mean",
    "params/masks_5/upsample/kernel",
    "params/proposal_queries",
  }
  key = found["params/boxes_4/attention/key/kernel"]
  np.testing.assert_array_equal(key, [[4, 5], [6, 7]])


@pytest.fixture(scope="module")
def find_shapes():
  """Shapes of a config's variables, each part traced once."""
  found = {}

  def find(config):
    network = build_method(config).network.clone(num_proposals=4)
    network, backbone = without_backbone(network)
    key = repr(network)
    if key not in found:
      found[key] = variable_shapes(network, image_size=(32, 32))
    variables = backbone.add_to(found[key])
    params = dict(variables["params"])
    for name in ("proposal_boxes", "proposal_queries"):
      shape = (config.network.num_proposals, *params[name].shape[1:])
      params[name] = jax.ShapeDtypeStruct(shape, params[name].dtype)
    # Values play no role: bytes take a quarter of the memory.
    return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, jnp.int8),
      variables | {"params": params},
    )

  return find


@pytest.mark.parametrize("name", NAMES)
def test_published_file_fills_its_network(name, find_shapes, record_property):
  row, arrays = published.find(name), queryinst_layouts.make(name)
  family = find_family(None, arrays)
  suggested = suggest_config(family, recognize(family, arrays))
  path, _, argument = row.config.partition(":")
  suggested, _, given = suggested.partition(":")
  assert suggested == f"configs/{path}"
  assert set(given.split(",")) <= set(argument.split(","))
  source = Source(arrays=arrays, class_names=None, notes=())
  conversion = convert_source(source, load_config(row.config), find_shapes)
  assert [number for number, _ in conversion.classes][-1] == 90
  leaves = jax.tree.leaves(conversion.variables)
  kept = [x for x in arrays if not x.endswith(DROPPED)]
  assert sum(x.size for x in leaves) == sum(arrays[x].size for x in kept)
  assert row.megabytes == round(sum(x.size for x in leaves) * 4 / 1e6)
  number = count_parameters(conversion.variables["params"])
  record_property(
    "published",
    {
      "family": family.name,
      "checkpoint": name,
      "config": row.config,
      "AP, published": row.ap,
      "tensors": len(leaves),
      "dropped": len(arrays) - len(kept),
      "parameters": f"{number:,}",
      "input": "-",
      "masks": "-",
    },
  )
