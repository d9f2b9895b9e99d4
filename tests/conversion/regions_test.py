"""Tests of solo_jax/conversion/regions.py.

That converted weights give the published outputs is tested with the networks.
Here every published file's layout fills its network at full size.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import region_layouts

from solo_jax.checkpoints.state import count_parameters
from solo_jax.conversion import regions
from solo_jax.conversion.mapping import convert
from solo_jax.errors import UserError
from solo_jax.methods.point_rend.network import PointRend
from solo_jax.methods.point_rend.subdivision import Subdivision
from solo_jax.nn.backbones.resnet import DEPTHS, ResNet
from tests.methods.small_regions import ARGUMENTS, make_network

R50, R101 = dict(depth=50), dict(depth=101)
X32X4D = R101 | dict(groups=32, group_width=4)
X64X4D = R101 | dict(groups=64, group_width=4)
X32X8D = R101 | dict(groups=32, group_width=8)
ONE, THREE = ((10.0, 10.0, 5.0, 5.0),), ((10.0, 10.0, 5.0, 5.0),) * 3

# Published file or files: layout, rules, backbone, and what its network has.
MASK = dict(box_dense=2, mask_convs=4)
CASCADE = MASK | dict(stage_weights=THREE, box_classes="all")
EACH = CASCADE | dict(mask_heads="each")
HTC = EACH | dict(mask_flow=True, semantic_classes=183)
CONV_HEADS = MASK | dict(box_convs=4, box_dense=1)


def torchvision(layout, **network):
  return (
    layout,
    regions.TORCHVISION_MASK_RCNN,
    R50,
    dict(num_classes=90) | network,
  )


def detectron2(kind, backbone, network, **layout):
  rules = {
    "mask": regions.DETECTRON2_MASK_RCNN,
    "cascade": regions.DETECTRON2_CASCADE,
    "point_rend": regions.DETECTRON2_POINT_REND,
  }[kind]
  make = functools.partial(region_layouts.detectron2, kind, **backbone)
  return functools.partial(make, **layout), rules, backbone, network


def mmdet(kind, backbone, network, **layout):
  rules = {
    "mask": regions.MMDET_MASK_RCNN,
    "point_rend": regions.MMDET_POINT_REND,
  }.get(kind, regions.MMDET_CASCADE)
  make = functools.partial(region_layouts.mmdet, kind, **backbone)
  return functools.partial(make, **layout), rules, backbone, network


FILES = {
  # torchvision
  "bf2d0c1e": torchvision(
    functools.partial(region_layouts.torchvision_v1, in_file=True), **MASK
  ),
  "bf2d0c1e in memory": torchvision(
    functools.partial(region_layouts.torchvision_v1, in_file=False), **MASK
  ),
  "73cbd019": torchvision(
    region_layouts.torchvision_v2,
    norm="batch",
    proposal_convs=2,
    **CONV_HEADS,
  ),
  # detectron2
  "a54504 f10217": detectron2("mask", R50, MASK),
  "a3ec72": detectron2("mask", R101, MASK),
  "2d9806": detectron2("mask", X32X8D, MASK),
  "dc5d9e": detectron2("mask", R50, CONV_HEADS | dict(norm="group"), norm="GN"),
  "bb69de 89a8d3 14d201": detectron2(
    "mask",
    R50,
    CONV_HEADS | dict(norm="batch", proposal_convs=2),
    norm="SyncBN",
  ),
  "e9d89b 480dd8": detectron2("cascade", R50, CASCADE),
  "736f5a edd263": detectron2("point_rend", R50, MASK),
  "736f5a old": detectron2("point_rend", R50, MASK, old=True),
  "3f4d2a": detectron2("point_rend", R101, MASK),
  "ba17b9": detectron2("point_rend", X32X8D, MASK),
  # mmdetection
  "d4b0c5d6 3e542a40 21b550bb 0ebd1859 42aa3d00": mmdet("mask", R50, MASK),
  "1efe0ed5 14b391c7 5675c317": mmdet("mask", R101, MASK),
  "478d0b67 faef898c abcd7859": mmdet("mask", X32X4D, MASK),
  "9352eb0d 39d6f70c c376f129": mmdet("mask", X64X4D, MASK),
  "0aaf329e b4637974": mmdet("mask", X32X8D, MASK),
  "1bcb5fb4 e0ebb6b7": mmdet("point_rend", R50, MASK),
  "9d4dcb24 4af8e66e 5bdc3824 6e29b3a6": mmdet("cascade", R50, EACH),
  "befdf6ee 005947da 51a2d363": mmdet("cascade", R101, EACH),
  "0f411b1f ed1f4751 40773067": mmdet("cascade", X32X4D, EACH),
  "9a2db89d bdb5126a d3e64ba0": mmdet("cascade", X64X4D, EACH),
  "7332cf16 fe28c577": mmdet("htc", R50, HTC),
  "9b41b48f": mmdet("htc", R101, HTC),
  "de97ae01": mmdet("htc", X32X4D, HTC),
  "b181fd7a": mmdet("htc", X64X4D, HTC),
  "946fd751": mmdet("htc", X64X4D | dict(dcn="v1"), HTC),
  "none, htc-without-semantic": mmdet(
    "htc", R50, HTC | dict(semantic_classes=0), semantic=False
  ),
}
# Parameters in millions, from the reference's table of costs.
MILLIONS = {
  "a54504 f10217": 44.4,
  "a3ec72": 63.4,
  "73cbd019": 46.4,
  "478d0b67 faef898c abcd7859": 63.0,
  "9352eb0d 39d6f70c c376f129": 102.3,
  "2d9806": 107.6,
  "e9d89b 480dd8": 72.0,
  "9d4dcb24 4af8e66e 5bdc3824 6e29b3a6": 77.3,
  "befdf6ee 005947da 51a2d363": 96.3,
  "7332cf16 fe28c577": 80.3,
  "9b41b48f": 99.3,
  "b181fd7a": 138.2,
  "736f5a edd263": 60.2,
}


def full_size(kind, backbone, changed):
  backbone = dict(backbone)
  given = dict(
    num_classes=80, fpn_channels=256, dense_channels=1024, stage_weights=ONE
  )
  given |= dict(
    backbone=ResNet(
      **DEPTHS[backbone.pop("depth")],
      groups=backbone.pop("groups", 1),
      group_width=backbone.pop("group_width", 64),
      deformable=backbone.pop("dcn", None),
      norm="group" if changed.get("norm") == "group" else "frozen",
    )
  )
  assert not backbone
  if kind == "point_rend":
    changed = {k: v for k, v in changed.items() if not k.startswith("mask")}
    return PointRend(
      **ARGUMENTS
      | given
      | changed
      | dict(subdivision=Subdivision(steps=5, num_points=784))
    )
  return make_network(**given | changed)


def shapes_of(network):
  return jax.eval_shape(
    functools.partial(network.init, train=False),
    jax.random.key(0),
    jnp.zeros((1, 64, 64, 3), jnp.uint8),
    jnp.full((1, 2), 64, jnp.int32),
  )


@pytest.mark.parametrize("name", FILES)
def test_published_file_fills_its_network(name):
  layout, rules, backbone, changed = FILES[name]
  is_points = rules in (
    regions.DETECTRON2_POINT_REND,
    regions.MMDET_POINT_REND,
  )
  network = full_size("point_rend" if is_points else None, backbone, changed)
  target = shapes_of(network)
  result = convert(layout(), rules, target)
  if name in MILLIONS:
    # Reference: parameters with those of batch norms.
    found = count_parameters(result["params"]) / 1e6
    np.testing.assert_allclose(found, MILLIONS[name], atol=0.06)


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
  target = shapes_of(full_size(None, R50, MASK | dict(num_classes=79)))
  with pytest.raises(UserError, match="does not fit the network") as error:
    convert(layout, regions.MMDET_MASK_RCNN, target)
  for part in (
    "roi_head.mask_head.extra.weight (3,): matches no rule",
    "params/proposal_head/logits/bias (3,): not in the checkpoint",
    "roi_head.bbox_head.fc_cls.weight: gives shape (1024, 81)",
  ):
    assert part in str(error.value)
