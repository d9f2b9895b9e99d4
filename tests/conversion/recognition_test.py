"""Tests of solo_jax/conversion/recognition.py.

The layouts are written down in layouts.py, the checkpoints in published.py.
"""

import layouts
import numpy as np
import pytest
from published import CHECKPOINTS

from solo_jax.conversion.families import find_family
from solo_jax.conversion.recognition import Network, recognize
from solo_jax.errors import UserError


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda x: x.name)
def test_every_published_checkpoint_is_recognised(checkpoint):
  source = checkpoint.state_dict()
  family = find_family(None, source)
  assert family.name == checkpoint.family
  kind = "x" if checkpoint.groups > 1 else "r"
  assert recognize(family, source) == Network(
    method=checkpoint.method,
    backbone=f"{kind}{checkpoint.depth}",
    deformable=checkpoint.dcn,
    num_classes=80,
    is_light=checkpoint.kernel == 128 or checkpoint.is_light,
  )


@pytest.mark.parametrize(
  ("name", "backbone", "make"),
  [
    ("torchvision", "r18", lambda out: resnet(out, 18)),
    ("torchvision", "r34", lambda out: resnet(out, 34)),
    ("torchvision", "r152", lambda out: resnet(out, 152)),
    (
      "torchvision",
      "x101",
      lambda out: resnet(out, 101, groups=64, group_width=4),
    ),
    ("detectron2", "r50", lambda out: layouts.detectron2_resnet(out, "", 50)),
    ("lite0", "lite0", lambda out: lite0(out)),
  ],
)
def test_backbones_are_recognised(name, backbone, make):
  source = layouts.Layout()
  make(source)
  family = find_family(None, source)
  assert family.name == name and family.is_backbone
  assert recognize(family, source) == Network(
    method=None,
    backbone=backbone,
    deformable=None,
    num_classes=None,
    is_light=False,
  )


def resnet(out, depth, **groups):
  layouts.torchvision_resnet(out, "", depth, **groups)
  out.affine("fc", 1000)


def lite0(out):
  out.conv("_conv_stem", 32, 3, 3)
  out.conv("_blocks.0._depthwise_conv", 32, 1, 3)


def test_names_of_no_method():
  source = {"encoder.weight": np.zeros(1), "encoder.bias": np.zeros(1)}
  with pytest.raises(UserError, match="no method of mmdet"):
    recognize(find_family("mmdet", source), source)


@pytest.mark.parametrize("odd", [np.zeros(()), np.zeros(3), np.zeros((0,))])
def test_tensors_of_another_rank_are_left_to_the_table(odd):
  """Nothing is inferred from a shape that does not fit the name."""
  source = layouts.Layout()
  resnet(source, 18)
  source = dict(source, **{"layer1.0.conv2.weight": odd})
  assert recognize(find_family("torchvision", source), source).backbone == "r18"
