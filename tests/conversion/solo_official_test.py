"""Tests of solo_jax/conversion/solo_official.py.

Full-size checkpoints of every kind are converted in published_test.py.
"""

import numpy as np
import pytest

from solo_jax.conversion import mmdet, solo_official
from solo_jax.conversion.mapping import route

# Which name of mmdetection is which there; loaded strictly both ways in torch.
SOLOV2_NAMES = {
  "mask_head.mask_feature_head.conv_pred.": "mask_feat_head.conv_pred.0.",
  "mask_head.mask_feature_head.": "mask_feat_head.",
  "mask_head.cls_convs.": "bbox_head.cate_convs.",
  "mask_head.kernel_convs.": "bbox_head.kernel_convs.",
  "mask_head.conv_cls.": "bbox_head.solo_cate.",
  "mask_head.conv_kernel.": "bbox_head.solo_kernel.",
}
SOLO_NAMES = {
  "mask_head.cls_convs.": "bbox_head.cate_convs.",
  "mask_head.mask_convs.": "bbox_head.ins_convs.",
  "mask_head.conv_cls.": "bbox_head.solo_cate.",
  "mask_head.conv_mask_list.": "bbox_head.solo_ins_list.",
}
DECOUPLED_NAMES = {
  "mask_head.cls_convs.": "bbox_head.cate_convs.",
  "mask_head.mask_convs.": "bbox_head.ins_convs.",
  "mask_head.mask_convs_x.": "bbox_head.ins_convs_x.",
  "mask_head.mask_convs_y.": "bbox_head.ins_convs_y.",
  "mask_head.conv_cls.": "bbox_head.dsolo_cate.",
  "mask_head.conv_mask_list_x.": "bbox_head.dsolo_ins_list_x.",
  "mask_head.conv_mask_list_y.": "bbox_head.dsolo_ins_list_y.",
}


def rename(name, names):
  for old, new in names.items():
    if name.startswith(old):
      return new + name.removeprefix(old)
  return name


def check_same_places(source, names, official, theirs):
  renamed = {rename(name, names): array for name, array in source.items()}
  assert len(renamed) == len(source)
  found, expected = route(renamed, official), route(source, theirs)
  assert len(expected) == len(source)  # each has a rule and its own place
  assert found.keys() == expected.keys()
  for path, array in expected.items():
    np.testing.assert_array_equal(found[path], array, err_msg=path)


@pytest.mark.golden("model_solov2_*.npz")
def test_solov2_goes_where_mmdetection_goes(golden):
  check_same_places(
    golden.state_dict(), SOLOV2_NAMES, solo_official.SOLOV2, mmdet.SOLOV2
  )


@pytest.mark.golden("head_solo[!v]*npz")
def test_solo_goes_where_mmdetection_goes(golden):
  source = {f"mask_head.{k}": v for k, v in golden.state_dict().items()}
  check_same_places(source, SOLO_NAMES, solo_official.SOLO, mmdet.SOLO)


@pytest.mark.golden("head_decoupled*.npz")
def test_decoupled_solo_goes_where_mmdetection_goes(golden):
  source = {f"mask_head.{k}": v for k, v in golden.state_dict().items()}
  check_same_places(
    source,
    DECOUPLED_NAMES,
    solo_official.DECOUPLED_SOLO,
    mmdet.DECOUPLED_SOLO,
  )


@pytest.mark.parametrize("name", ["conv2.conv_offset", "conv2_offset"])
def test_both_names_of_a_deformable_backbone(name):
  source = {
    f"backbone.layer3.11.{name}.weight": np.zeros((27, 8, 3, 3)),
    f"backbone.layer3.11.{name}.bias": np.zeros(27),
  }
  assert route(source, solo_official.SOLOV2).keys() == {
    "params/backbone/layer3_11/conv2/offset/kernel",
    "params/backbone/layer3_11/conv2/offset/bias",
  }
