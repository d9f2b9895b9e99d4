"""Tests of solo_jax/conversion/regions.py.

That converted weights give the published outputs is tested with the networks.
Here every published file's layout fills its network at full size.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import region_layouts
from published_regions import LAYOUTS

from solo_jax import published
from solo_jax.building import build_method
from solo_jax.checkpoints.state import count_parameters, variable_shapes
from solo_jax.conversion import regions
from solo_jax.conversion.checkpoint_file import Source
from solo_jax.conversion.converter import convert_source, suggest_config
from solo_jax.conversion.families import find_family
from solo_jax.conversion.mapping import convert
from solo_jax.conversion.recognition import recognize
from solo_jax.errors import UserError
from solo_jax.weights import load_config
from tests.methods.small_regions import make_network
from tests.network_parts import without_backbone

# Parameters in millions, from the reference's table of costs.
MILLIONS = {
  "mask_rcnn_v2_r50_torchvision": 46.4,
  "mask_rcnn_r50_3x_detectron2": 44.4,
  "mask_rcnn_r101_3x_detectron2": 63.4,
  "mask_rcnn_x101_32x8d_3x_detectron2": 107.6,
  "cascade_mask_rcnn_r50_3x_detectron2": 72.0,
  "point_rend_r50_3x_detectron2": 60.2,
  "mask_rcnn_x101_32x4d_1x_mmdet": 63.0,
  "mask_rcnn_x101_64x4d_1x_mmdet": 102.3,
  "cascade_mask_rcnn_r50_1x_mmdet": 77.3,
  "cascade_mask_rcnn_r101_1x_mmdet": 96.3,
  "htc_r50_1x_mmdet": 80.3,
  "htc_r101_20e_mmdet": 99.3,
  "htc_x101_64x4d_20e_mmdet": 138.2,
}


@pytest.fixture(scope="module")
def find_shapes():
  """Shapes of the variables of a config's network, each part traced once.

  Values play no role: bytes take a quarter of the memory.
  """
  found = {}

  def find(config):
    network, backbone = without_backbone(build_method(config).network)
    if repr(network) not in found:
      # Nothing depends on the size of the input.
      found[repr(network)] = variable_shapes(network, image_size=(64, 64))
    return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, jnp.int8),
      backbone.add_to(found[repr(network)]),
    )

  return find


def convert_layout(arrays, config, find_shapes):
  source = Source(arrays=arrays, class_names=None, notes=())
  return convert_source(source, load_config(config), find_shapes)


@pytest.mark.parametrize("name", LAYOUTS)
def test_published_file_fills_its_network(name, find_shapes, record_property):
  row, arrays = published.find(name), LAYOUTS[name]()
  family = find_family(None, arrays)
  path, _, argument = row.config.partition(":")
  suggested = suggest_config(family, recognize(family, arrays))
  # Names and shapes of caffe's ResNets are those of any other.
  suggested, _, given = suggested.replace("_caffe", "").partition(":")
  assert suggested == f"configs/{path}"
  assert set(given.split(",")) <= set(argument.replace("_caffe", "").split(","))
  conversion = convert_layout(arrays, row.config, find_shapes)
  assert [number for number, _ in conversion.classes][-1] == 90
  leaves = jax.tree.leaves(conversion.variables)
  assert row.megabytes == round(sum(x.size for x in leaves) * 4 / 1e6)
  number = count_parameters(conversion.variables["params"])
  if name in MILLIONS:  # the reference's, with those of batch norms
    np.testing.assert_allclose(number / 1e6, MILLIONS[name], atol=0.06)
  record_property(
    "published",
    {
      "family": family.name,
      "checkpoint": name,
      "config": row.config,
      "AP, published": row.ap,
      "tensors": len(leaves),
      "dropped": len(arrays) - len(leaves),
      "parameters": f"{number:,}",
      "input": "-",
      "masks": "-",
    },
  )


@pytest.mark.parametrize(
  ("layout", "config"),
  [
    (
      region_layouts.torchvision_v1(in_file=False),
      published.find("mask_rcnn_r50_torchvision").config,
    ),
    (
      region_layouts.detectron2("point_rend", old=True),
      published.find("point_rend_r50_3x_detectron2").config,
    ),
    (
      region_layouts.mmdet("htc", semantic=False),
      "htc_coco.py:semantic=false",
    ),
  ],
  ids=["torchvision in memory", "point_rend of 2020", "htc without semantic"],
)
def test_other_spellings_and_networks(layout, config, find_shapes):
  convert_layout(layout, config, find_shapes)


def test_outputs_of_ids_that_coco_skips_have_no_names(find_shapes):
  arrays = region_layouts.torchvision_v1(in_file=True)
  config = published.find("mask_rcnn_r50_torchvision").config
  classes = convert_layout(arrays, config, find_shapes).classes
  assert [number for number, _ in classes] == [*range(1, 91)]
  assert classes[11] == (12, "N/A") and classes[12] == (13, "stop sign")
  with pytest.raises(UserError, match="outputs=90"):
    convert_layout(arrays, config.replace(",outputs=90", ""), find_shapes)


def test_pooled_features_are_read_row_by_row():
  weight = np.arange(2 * 3 * 49.0).reshape(2, 3 * 49)
  kernel = regions.pooled_dense(weight)
  # Output 1, channel 2, row 4, column 5.
  source = weight.reshape(2, 3, 7, 7)[1, 2, 4, 5]
  assert kernel.reshape(7, 7, 3, 2)[4, 5, 2, 1] == source


def test_coarse_masks_are_cells_then_classes():
  weight = np.arange(3 * 49 * 2.0).reshape(3 * 49, 2)
  kernel = regions.coarse_mask(weight)
  assert kernel.shape == (2, 49 * 3)
  source = weight.reshape(3, 7, 7, 2)[2, 4, 5, 1]
  assert kernel.reshape(2, 7, 7, 3)[1, 4, 5, 2] == source
  bias = regions.coarse_mask(weight[:, 0])
  assert (
    bias.reshape(7, 7, 3)[4, 5, 2] == weight.reshape(3, 7, 7, 2)[2, 4, 5, 0]
  )


def test_background_of_torchvision_goes_last_or_away():
  rows = np.arange(3.0)
  np.testing.assert_array_equal(regions.background_last(rows), [1, 2, 0])
  weight = np.arange(6.0).reshape(3, 2)
  np.testing.assert_array_equal(
    regions.background_last(weight), [[2, 4, 0], [3, 5, 1]]
  )
  np.testing.assert_array_equal(
    regions.without_background(np.arange(12.0)), np.arange(4.0, 12)
  )
  mask = np.arange(6.0).reshape(3, 2, 1, 1)
  np.testing.assert_array_equal(
    regions.masks_without_background(mask)[0, 0], [[2, 4], [3, 5]]
  )


def test_what_is_left_over_is_listed():
  layout = region_layouts.mmdet("mask")
  layout.put("roi_head.mask_head.extra.weight", 3)
  del layout["rpn_head.rpn_cls.bias"]
  small = make_network()
  target = jax.eval_shape(
    lambda: small.init(
      jax.random.key(0),
      jnp.zeros((1, 64, 64, 3), jnp.uint8),
      jnp.full((1, 2), 64),
      train=False,
    )
  )
  with pytest.raises(UserError, match="does not fit the network") as error:
    convert(layout, regions.MMDET_MASK_RCNN, target)
  assert "roi_head.mask_head.extra.weight (3,): matches no rule" in str(
    error.value
  )
  del layout["roi_head.mask_head.extra.weight"]
  target = {
    "params": {"proposal_head": {"logits": {"bias": np.zeros(3, np.float32)}}}
  }
  few = {"rpn_head.rpn_reg.bias": layout["rpn_head.rpn_reg.bias"]}
  with pytest.raises(UserError, match="logits/bias .3,.: not in the check"):
    convert(few, regions.MMDET_MASK_RCNN, target)
