"""Tests of solo_jax/conversion/yolact.py.

That converted weights give the published outputs is tested with the network.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yolact_layouts

from solo_jax import published
from solo_jax.building import build_method
from solo_jax.checkpoints.state import count_parameters
from solo_jax.conversion import yolact
from solo_jax.conversion.checkpoint_file import Source
from solo_jax.conversion.converter import convert_source, suggest_config
from solo_jax.conversion.families import find_family
from solo_jax.conversion.mapping import route
from solo_jax.conversion.recognition import recognize
from solo_jax.errors import UserError
from solo_jax.weights import load_config
from tests.network_parts import without_backbone

ROWS = [row for row in published.PUBLISHED if row.name.startswith("yolact")]


def test_names_of_the_authors():
  arrays = {
    "backbone.layers.0.1.conv2.weight": np.zeros(1),
    "backbone.layer1.1.conv2.weight": np.ones(1),  # repeated in old files
    "backbone.layers.3.0.bn1.running_var": np.zeros(1),
    "fpn.lat_layers.0.weight": np.zeros(1),
    "fpn.pred_layers.2.bias": np.zeros(1),
    "fpn.downsample_layers.2.weight": np.ones(1),
    "maskiou_net.maskiou_net.4.weight": np.zeros(1),
    "maskiou_net.maskiou_net.0.weight": np.zeros(1),
    "maskiou_net.maskiou_net.2.weight": np.zeros(1),
  }
  found = route(yolact.prepare_original(arrays), yolact.ORIGINAL)
  assert set(found) == {
    "params/backbone/layer1_1/conv2/kernel",
    "batch_stats/backbone/layer4_0/bn1/var",
    "params/pyramid/lateral_5/kernel",  # the top of the pyramid comes first
    "params/pyramid/output_3/bias",
    "params/mask_score_head/conv_0/kernel",
    "params/mask_score_head/conv_1/kernel",
    "params/mask_score_head/predict/kernel",
  }
  assert not any(array.any() for array in found.values())


def test_the_background_comes_first():
  """Two priors, two classes: (a, b, background) of each."""
  arrays = {
    "bbox_head.conv_cls.bias": np.array([1, 2, 9, 3, 4, 8]),
    "bbox_head.conv_cls.weight": np.arange(6).reshape(6, 1, 1, 1),
    "bbox_head.conv_reg.bias": np.arange(8),
  }
  found = yolact.prepare_mmdet(arrays)
  assert found["bbox_head.conv_cls.bias"].tolist() == [9, 1, 2, 8, 3, 4]
  order = found["bbox_head.conv_cls.weight"][:, 0, 0, 0]
  assert order.tolist() == [2, 0, 1, 5, 3, 4]
  assert found["bbox_head.conv_reg.bias"] is arrays["bbox_head.conv_reg.bias"]


def test_a_bias_before_a_norm_moves_into_its_mean():
  """Deformable convolutions of YOLACT++ have one: (x + b - m) = x - (m - b)."""
  at = "backbone.layers.1.0"
  arrays = {
    f"{at}.conv2.bias": np.array([1.0, 2]),
    f"{at}.bn2.running_mean": np.array([5.0, 5]),
    f"{at}.conv2.conv_offset_mask.bias": np.zeros(27),
  }
  found = route(yolact.prepare_original(arrays), yolact.ORIGINAL)
  path = "backbone/layer2_0"
  assert found[f"batch_stats/{path}/bn2/mean"].tolist() == [4, 3]
  assert f"params/{path}/conv2/offset/bias" in found and len(found) == 2


@functools.cache
def find_shapes(config):
  """Shapes of a network's variables, each part traced once."""
  network = build_method(load_config(config)).network
  network, backbone = without_backbone(network)
  return backbone.add_to(shapes_behind(network))


@functools.cache
def shapes_behind(network):
  """Cheap: only the backbone's input counts."""

  def init(key):
    image = jnp.zeros((1, 256, 256, 3), jnp.uint8)
    return network.init(key, image, jnp.full((1, 2), 256), train=False)

  return jax.eval_shape(init, jax.random.key(0))


def convert_layout(arrays, config):
  source = Source(arrays=arrays, class_names=None, notes=())
  shapes = find_shapes(config)
  return convert_source(source, load_config(config), lambda _: shapes)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_published_file_fills_its_network(row, record_property):
  arrays = yolact_layouts.find_layout(row.name)
  family = find_family(None, arrays)
  suggested = suggest_config(family, recognize(family, arrays))
  path, _, argument = suggested.partition(":")
  config, _, wanted = row.config.partition(":")
  assert path == f"configs/{config}"
  assert set(argument.split(",")) <= set(wanted.split(","))
  conversion = convert_layout(arrays, re.sub(",side=700", "", row.config))
  assert [number for number, _ in conversion.classes][-1] == 90
  leaves = jax.tree.leaves(conversion.variables)
  assert row.megabytes == round(sum(x.size for x in leaves) * 4 / 1e6)
  record_property(
    "published",
    {
      "family": family.name,
      "checkpoint": row.name,
      "config": row.config,
      "AP, published": row.ap,
      "tensors": len(leaves),
      "dropped": len(arrays) - len(leaves),
      "parameters": f"{count_parameters(conversion.variables['params']):,}",
      "input": "550x550",
      "masks": "-",
    },
  )


def test_names_of_mmdetection_3_and_a_network_without_its_input():
  name = "yolact_coco.py:backbone=r50,recipe=mmdet"
  layout = yolact_layouts.mmdet("r50", semantic="mask_head.segm_branch")
  convert_layout(layout, name)
  with pytest.raises(UserError, match="network.p6_source is 'p5'"):
    convert_layout(layout, "yolact_coco.py:backbone=r50")
