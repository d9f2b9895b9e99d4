"""Tests of solo_jax/methods/solov2/network.py, whole models included."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.conversion import mmdet
from solo_jax.conversion.mapping import convert
from solo_jax.methods.grid.decode import DecodeSettings, decode_candidates
from solo_jax.methods.solov2.decode import make_grids
from solo_jax.methods.solov2.network import SOLOv2
from solo_jax.nn.backbones.resnet import ResNet


class NoBackbone(nn.Module):
  """Stands in where only the head runs."""


def make_solov2(config, backbone):
  return SOLOv2(
    backbone=backbone,
    num_classes=config["num_classes"],
    levels=tuple(range(2, 2 + len(config["num_grids"]))),
    strides=tuple(config["strides"]),
    num_grids=tuple(config["num_grids"]),
    fpn_channels=config["in_channels"],
    head_channels=config["feat_channels"],
    num_head_convs=config["stacked_convs"],
    mask_channels=config["mask_feat_channels"],
    kernel_channels=config["mask_out_channels"],
    mask_stride=4,
    num_groups=config["num_groups"],
    mean=tuple(config["mean_rgb"]) if "mean_rgb" in config else (0, 0, 0),
    std=tuple(config["std_rgb"]) if "std_rgb" in config else (1, 1, 1),
    channel_order="rgb",
    dtype=jnp.float32,
  )


def assert_close(actual, expected):
  """Within 1e-4 of the largest value."""
  scale = np.abs(expected).max()
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * scale)


def assert_outputs(outputs, golden):
  jax.tree.map(
    assert_close, outputs.category_logits, golden.levels("cls_logit")
  )
  jax.tree.map(assert_close, outputs.kernel, golden.levels("kernel_pred"))
  assert_close(outputs.mask_feature, golden["mask_feats"].transpose(0, 2, 3, 1))


@pytest.mark.golden("head_solov2*.npz")
def test_head_fixture(golden):
  network = make_solov2(golden.config, NoBackbone())
  run = functools.partial(
    network.apply,
    padded_size=tuple(golden.config["net_hw"]),
    method="head",
  )
  pyramid = golden.levels("feat")
  shapes = jax.eval_shape(
    lambda: network.init(
      jax.random.key(0), pyramid, tuple(golden.config["net_hw"]), method="head"
    )
  )
  arrays = {f"mask_head.{k}": v for k, v in golden.state_dict().items()}
  variables = convert(arrays, mmdet.SOLOV2, shapes)
  assert_outputs(jax.jit(run)(variables, pyramid), golden)


@pytest.mark.golden("model_solov2*.npz")
def test_whole_model_fixture(
  golden, golden_decode_settings, assert_golden_detections
):
  """From pixels and mmdet weights to masks at the original size."""
  config = golden.config
  backbone = ResNet(
    **golden.resnet,
    stem="conv7",
    norm="frozen",
    frozen_stages=1,
    dtype=jnp.float32,
    axis_name=None,
  )
  network = make_solov2(config, backbone)
  height, width = config["img_hw"]
  image = np.zeros((1, *config["net_hw"], 3), np.uint8)
  image[0, :height, :width] = golden["image_bgr_uint8"][..., ::-1]
  image_size = np.array([[height, width]], np.int32)
  shapes = jax.eval_shape(
    lambda: network.init(jax.random.key(0), image, image_size, train=False)
  )
  variables = convert(golden.state_dict(), mmdet.SOLOV2, shapes)
  outputs = jax.jit(functools.partial(network.apply, train=False))(
    variables, image, image_size
  )
  assert_outputs(outputs, golden)

  settings = DecodeSettings(**golden_decode_settings)
  decoded = jax.jit(lambda x: decode_candidates(make_grids(x), settings))(
    outputs
  )
  assert_golden_detections(decoded, rtol=1e-3)
