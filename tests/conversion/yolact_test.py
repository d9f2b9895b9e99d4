"""Tests of solo_jax/conversion/yolact.py.

That converted weights give the published outputs is tested with the network.
"""

import numpy as np

from solo_jax.conversion import yolact
from solo_jax.conversion.mapping import route


def test_names_of_the_authors():
  arrays = {
    "backbone.layers.0.1.conv2.weight": np.zeros(1),
    "backbone.layer1.1.conv2.weight": np.ones(1),  # repeated in old files
    "backbone.layers.3.0.bn1.running_var": np.zeros(1),
    "fpn.lat_layers.0.weight": np.zeros(1),
    "fpn.pred_layers.2.bias": np.zeros(1),
    "fpn.downsample_layers.2.weight": np.ones(1),
    "maskiou_net.maskiou_net.4.weight": np.zeros(1),
    "maskiou_net.maskiou_net.0.weight": np.zeros(1),
    "maskiou_net.maskiou_net.2.weight": np.zeros(1),
  }
  rules = yolact.ORIGINAL + yolact.mask_score_rules(2)
  found = route(yolact.prepare_original(arrays), rules)
  assert set(found) == {
    "params/backbone/layer1_1/conv2/kernel",
    "batch_stats/backbone/layer4_0/bn1/var",
    "params/pyramid/lateral_5/kernel",  # the top of the pyramid comes first
    "params/pyramid/output_3/bias",
    "params/mask_score_head/conv_0/kernel",
    "params/mask_score_head/conv_1/kernel",
    "params/mask_score_head/predict/kernel",
  }
  assert not any(array.any() for array in found.values())


def test_the_background_comes_first():
  """Two priors, two classes: (a, b, background) of each."""
  arrays = {
    "bbox_head.conv_cls.bias": np.array([1, 2, 9, 3, 4, 8]),
    "bbox_head.conv_cls.weight": np.arange(6).reshape(6, 1, 1, 1),
    "bbox_head.conv_reg.bias": np.arange(8),
  }
  found = yolact.prepare_mmdet(arrays)
  assert found["bbox_head.conv_cls.bias"].tolist() == [9, 1, 2, 8, 3, 4]
  order = found["bbox_head.conv_cls.weight"][:, 0, 0, 0]
  assert order.tolist() == [2, 0, 1, 5, 3, 4]
  assert found["bbox_head.conv_reg.bias"] is arrays["bbox_head.conv_reg.bias"]
