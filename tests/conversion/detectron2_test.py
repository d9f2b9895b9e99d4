"""Tests of solo_jax/conversion/detectron2.py."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest

from solo_jax.conversion import detectron2
from solo_jax.conversion.mapping import convert, dropped, flatten
from solo_jax.nn.backbones.resnet import DEPTHS, ResNet


def make_target(depth):
  network = ResNet(**DEPTHS[depth], stride_in_1x1=True)
  image = jnp.zeros((1, 32, 32, 3))
  return jax.eval_shape(
    lambda: network.init(jax.random.key(0), image, train=False)
  )


@pytest.mark.parametrize("depth", [50, 101])
def test_every_array_is_placed_once(depth):
  source = layouts.Layout()
  layouts.detectron2_resnet(source, "", depth)
  source.put("linear.weight", 1000, 2048)
  target = make_target(depth)
  result = flatten(convert(source, detectron2.BACKBONE, target))
  assert result.keys() == flatten(target).keys()
  assert dropped(source, detectron2.BACKBONE) == ["linear.weight"]


def test_stages_and_layers_are_shifted_as_they_should():
  source = layouts.Layout()
  layouts.detectron2_resnet(source, "", 50)
  values = {}
  for i, name in enumerate(source):
    values[name] = np.full(source[name].shape, i, np.float32)
  result = flatten(convert(values, detectron2.BACKBONE, make_target(50)))
  for name, path in (
    ("stem.conv1.norm.running_var", "batch_stats/bn1/var"),
    ("res2.0.shortcut.weight", "params/layer1_0/downsample_conv/kernel"),
    ("res3.2.conv1.weight", "params/layer2_2/conv1/kernel"),
    ("res4.5.conv3.norm.bias", "params/layer3_5/bn3/bias"),
    (
      "res5.0.shortcut.norm.running_mean",
      "batch_stats/layer4_0/downsample_bn/mean",
    ),
  ):
    assert (result[path] == values[name].flat[0]).all(), name
