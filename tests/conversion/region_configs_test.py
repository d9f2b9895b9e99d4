"""Tests of solo_jax/conversion/region_configs.py."""

import numpy as np

from solo_jax.conversion.region_configs import find_traits, suggest


def test_traits_are_found_by_parameter_names_and_shapes():
  one = np.zeros(1)
  paths = {
    "params/box_heads_0/logits/bias": one,
    "params/box_heads_1/codes/kernel": one,
    "params/masks_0/conv_0/norm/scale": one,
    "params/backbone/layer1_0/conv2/kernel": np.zeros((256, 8, 3, 3)),
  }
  assert find_traits(paths) == {"cascade", "normed", "32x8d"}
  paths["params/backbone/layer1_0/conv2/kernel"] = np.zeros((64, 64, 3, 3))
  assert find_traits(paths) == {"cascade", "normed"}
  assert find_traits({}) is None


def test_a_deformable_htc_without_semantic_branch():
  assert (
    suggest(
      "mmdet_mask_rcnn",
      "x101",
      is_deformable=True,
      num_classes=80,
      traits=frozenset(["cascade", "fed", "64x4d"]),
    )
    == "htc_coco.py:backbone=x101_64x4d_dcn,semantic=false"
  )
