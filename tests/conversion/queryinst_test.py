"""Tests of solo_jax/conversion/queryinst.py.

That converted weights give mmdetection's outputs is tested with the network.
"""

import numpy as np

from solo_jax.conversion import queryinst
from solo_jax.conversion.mapping import route


def test_names():
  box, mask = "roi_head.bbox_head.4.", "roi_head.mask_head.5."
  arrays = {
    f"{box}attention.attn.in_proj_weight": np.arange(12.0).reshape(6, 2),
    f"{box}cls_fcs.1.weight": np.zeros(2),
    f"{box}reg_fcs.6.weight": np.zeros((2, 2)),
    f"{box}instance_interactive_conv.fc_layer.bias": np.zeros(2),
    f"{mask}convs.3.bn.running_mean": np.zeros(2),
    f"{mask}upsample.weight": np.zeros((2, 3, 2, 2)),
    "rpn_head.init_proposal_features.weight": np.zeros((1, 2)),
  }
  found = route(queryinst.prepare(arrays), queryinst.MMDET)
  assert set(found) == {
    "params/boxes_4/attention/query/kernel",
    "params/boxes_4/attention/key/kernel",
    "params/boxes_4/attention/value/kernel",
    "params/boxes_4/category_norm_0/scale",
    "params/boxes_4/box_dense_2/kernel",
    "params/boxes_4/dynamic_conv/dense/bias",
    "batch_stats/masks_5/norm_3/mean",
    "params/masks_5/upsample/kernel",
    "params/proposal_queries",
  }
  key = found["params/boxes_4/attention/key/kernel"]
  np.testing.assert_array_equal(key, [[4, 5], [6, 7]])
