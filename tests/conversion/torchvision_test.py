"""Tests of solo_jax/conversion/torchvision.py."""

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest

from solo_jax.conversion import torchvision
from solo_jax.conversion.mapping import flatten
from solo_jax.errors import UserError
from solo_jax.nn.backbones.resnet import DEPTHS, ResNet


@pytest.mark.golden("model_solov2_*.npz")
def test_classifier_is_dropped_and_the_rest_lands_where_mmdet_puts_it(golden):
  backbone = ResNet(
    **golden.resnet,
    stem="conv7",
    norm="frozen",
    frozen_stages=0,
    dtype=jnp.float32,
    axis_name=None,
  )
  target = jax.eval_shape(
    lambda: backbone.init(
      jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False
    )
  )
  arrays = {
    name.removeprefix("backbone."): value
    for name, value in golden.state_dict().items()
    if name.startswith("backbone.")
  }
  variables = torchvision.convert_backbone(
    {**arrays, "fc.weight": np.zeros((10, 8)), "fc.bias": np.zeros(10)}, target
  )
  np.testing.assert_array_equal(
    variables["params"]["conv1"]["kernel"],
    arrays["conv1.weight"].transpose(2, 3, 1, 0),
  )
  np.testing.assert_array_equal(
    variables["batch_stats"]["layer4_1"]["bn2"]["var"],
    arrays["layer4.1.bn2.running_var"],
  )

  del arrays["layer3.0.conv1.weight"]
  with pytest.raises(UserError, match="layer3_0/conv1/kernel.*not in the"):
    torchvision.convert_backbone(arrays, target)


def test_missing_file(tmp_path):
  with pytest.raises(FileNotFoundError, match="resnet50.pth"):
    torchvision.load_backbone(tmp_path / "resnet50.pth", {})


@pytest.mark.parametrize(
  ("depth", "groups", "deformable"),
  [
    (18, {}, None),
    (152, {}, None),
    (101, dict(groups=64, group_width=4), None),
    (101, dict(groups=64, group_width=4), "v2"),
    (50, {}, "v1"),
  ],
)
def test_every_array_of_every_kind_is_placed_once(depth, groups, deformable):
  source = layouts.Layout()
  layouts.torchvision_resnet(source, "", depth, **groups, dcn=deformable)
  source.put("fc.weight", 1000, 2048)
  network = ResNet(**DEPTHS[depth], **groups, deformable=deformable)
  image = jnp.zeros((1, 32, 32, 3))
  target = jax.eval_shape(
    lambda: network.init(jax.random.key(0), image, train=False)
  )
  result = flatten(torchvision.convert_backbone(source, target))
  assert result.keys() == flatten(target).keys()
