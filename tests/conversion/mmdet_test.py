"""Tests of solo_jax/conversion/mmdet.py.

That converted weights give mmdet's outputs is tested with the networks.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.conversion import mmdet
from solo_jax.conversion.mapping import convert, flatten
from solo_jax.errors import UserError
from solo_jax.methods.solov2.network import SOLOv2
from solo_jax.nn.backbones.resnet import ResNet


def make_target(config, resnet):
  network = SOLOv2(
    backbone=ResNet(**resnet),
    num_classes=config["num_classes"],
    levels=(2, 3, 4, 5, 6),
    strides=tuple(config["strides"]),
    num_grids=tuple(config["num_grids"]),
    fpn_channels=config["fpn_out"],
    head_channels=config["feat_channels"],
    num_head_convs=config["stacked_convs"],
    mask_channels=config["mask_feat_channels"],
    kernel_channels=config["mask_out_channels"],
    mask_stride=4,
    num_groups=config["num_groups"],
    mean=tuple(config["mean_rgb"]),
    std=tuple(config["std_rgb"]),
    channel_order="rgb",
    dtype=jnp.float32,
  )
  return jax.eval_shape(
    functools.partial(network.init, train=False),
    jax.random.key(0),
    jnp.zeros((1, 64, 64, 3), jnp.uint8),
    jnp.full((1, 2), 64, jnp.int32),
  )


@pytest.mark.golden("model_solov2_*.npz")
def test_every_array_is_placed_once(golden):
  source = golden.state_dict()
  source["backbone.bn1.num_batches_tracked"] = np.asarray(3)
  target = make_target(golden.config, golden.resnet)
  result = flatten(convert(source, mmdet.SOLOV2, target))
  assert result.keys() == flatten(target).keys()
  assert len(result) == len(golden.state_dict())
  for key, path in (
    ("backbone.bn1.running_var", "batch_stats/backbone/bn1/var"),
    ("neck.fpn_convs.0.conv.bias", "params/fpn/output_2/bias"),
    ("neck.lateral_convs.3.conv.bias", "params/fpn/lateral_5/bias"),
    ("mask_head.cls_convs.1.gn.weight", "params/category_convs_1/norm/scale"),
    ("mask_head.conv_kernel.bias", "params/kernel/bias"),
  ):
    np.testing.assert_array_equal(result[path], source[key])
  key = "mask_head.mask_feature_head.convs_all_levels.3.conv0.conv.weight"
  np.testing.assert_array_equal(
    result["params/mask_feature/level3_conv0/conv/kernel"],
    source[key].transpose(2, 3, 1, 0),
  )
  key = "backbone.layer2.0.downsample.0.weight"
  np.testing.assert_array_equal(
    result["params/backbone/layer2_0/downsample_conv/kernel"],
    source[key].transpose(2, 3, 1, 0),
  )


@pytest.mark.golden("model_solov2_*.npz", limit=1)
def test_checkpoint_of_another_network_lists_what_differs(golden):
  config = golden.config | {"num_classes": golden.config["num_classes"] + 2}
  source = golden.state_dict() | {"bbox_head.fc.weight": np.zeros((2, 2))}
  del source["mask_head.conv_kernel.bias"]
  with pytest.raises(UserError, match="in 4 places") as error:
    convert(source, mmdet.SOLOV2, make_target(config, golden.resnet))
  for part in (
    "mask_head.conv_cls.weight: gives shape",
    "mask_head.conv_cls.bias: gives shape",
    "bbox_head.fc.weight (2, 2): matches no rule",
    "params/kernel/bias",
  ):
    assert part in str(error.value)
