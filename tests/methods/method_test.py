"""Tests of solo_jax/methods/method.py."""

import pytest

from solo_jax.methods.method import METHODS, make_backbone, make_method

SECTIONS = dict(
  num_classes=2,
  backbone={},
  network={},
  loss={},
  decode={},
  mean=(0, 0, 0),
  std=(1, 1, 1),
  channel_order="rgb",
  precision="float32",
)
BACKBONE = dict(
  norm="batch",
  frozen_stages=0,
  remat=(),
  weights=None,
  dtype="float32",
  axis_name=None,
)


def test_unknown_method_lists_the_known_ones():
  with pytest.raises(KeyError, match=r"unknown method 'yolo'.*solov2"):
    make_method("yolo", **SECTIONS)
  assert "solov2" in METHODS


def test_unknown_backbone():
  with pytest.raises(ValueError, match="backbone.name.*not 'vgg'"):
    make_backbone(name="vgg", **BACKBONE)


def test_lite0_ignores_the_fields_of_resnets():
  backbone = make_backbone(
    name="efficientnet_lite0",
    **BACKBONE,
    stage_sizes=None,
    widths=None,
    block=None,
    stem=None,
    stride_in_1x1=None,
  )
  assert type(backbone).__name__ == "EfficientNetLite0"
