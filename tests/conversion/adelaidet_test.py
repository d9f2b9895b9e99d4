"""Tests of solo_jax/conversion/adelaidet.py.

Full-size checkpoints are converted in published_test.py.
"""

import re

import numpy as np
import pytest

from solo_jax.conversion import adelaidet, mmdet
from solo_jax.conversion.mapping import route


def rename(name):
  """Turns a name of mmdetection into AdelaiDet's, as its layout has it."""
  name = re.sub(
    r"^backbone\.layer(\d)\.(\d+)\.",
    lambda m: f"backbone.bottom_up.res{int(m[1]) + 1}.{m[2]}.",
    name,
  )
  name = re.sub(r"^backbone\.(conv1|bn1)", r"backbone.bottom_up.stem.\1", name)
  if name.startswith("backbone.bottom_up."):
    name = re.sub(r"\.bn(\d)\.", r".conv\1.norm.", name)
    name = name.replace(".downsample.0.", ".shortcut.")
    return name.replace(".downsample.1.", ".shortcut.norm.")
  pyramid = re.fullmatch(r"neck\.(lateral|fpn)_convs\.(\d)\.conv\.(\w+)", name)
  if pyramid:
    kind = {"lateral": "lateral", "fpn": "output"}[pyramid[1]]
    return f"backbone.fpn_{kind}{int(pyramid[2]) + 2}.{pyramid[3]}"
  tower = re.fullmatch(
    r"mask_head\.(cls|kernel)_convs\.(\d)\.(conv|gn)\.(\w+)", name
  )
  if tower:
    kind = {"cls": "cate", "kernel": "kernel"}[tower[1]]
    index = 3 * int(tower[2]) + (tower[3] == "gn")
    return f"ins_head.{kind}_tower.{index}.{tower[4]}"
  name = name.replace("mask_head.conv_cls.", "ins_head.cate_pred.")
  name = name.replace("mask_head.conv_kernel.", "ins_head.kernel_pred.")
  if name.startswith("mask_head.mask_feature_head."):
    name = name.replace(".mask_feature_head", "")
    return name.replace(".conv.", ".0.").replace(".gn.", ".1.")
  return name


@pytest.mark.golden("model_solov2_*.npz")
def test_solov2_goes_where_mmdetection_goes(golden):
  source = golden.state_dict()
  renamed = {rename(name): array for name, array in source.items()}
  assert "backbone.bottom_up.res2.0.conv2.norm.running_var" in renamed
  assert "mask_head.convs_all_levels.3.conv2.1.bias" in renamed
  renamed["pixel_mean"] = np.zeros((3, 1, 1))
  found = route(renamed, adelaidet.SOLOV2)
  expected = route(source, mmdet.SOLOV2)
  assert found.keys() == expected.keys() and len(found) == len(source)
  for path, array in expected.items():
    np.testing.assert_array_equal(found[path], array, err_msg=path)
