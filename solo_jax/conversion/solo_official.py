"""Names of the authors' own code (WXinlong/SOLO).

A fork of mmdetection 1.0: backbone and pyramid have mmdetection's names, the
heads their own. The class head has one output for each class and none for the
background, which is label 0 in training there, so weights keep their order.
"""

from solo_jax.conversion.mapping import conv_norm_rules, conv_rules
from solo_jax.conversion.mmdet import BACKBONE_AND_NECK, tower_rules

_MASK_CONV = r"mask_feat_head\.convs_all_levels\.(\d)\.conv(\d)"

SOLOV2 = (
  *BACKBONE_AND_NECK,
  *tower_rules(r"bbox_head\.cate_convs", "category_convs"),
  *tower_rules(r"bbox_head\.kernel_convs", "kernel_convs"),
  *conv_rules(r"bbox_head\.solo_cate", "category"),
  *conv_rules(r"bbox_head\.solo_kernel", "kernel"),
  *conv_norm_rules(
    rf"{_MASK_CONV}\.conv", rf"{_MASK_CONV}\.gn", r"mask_feature/level\1_conv\2"
  ),
  *conv_norm_rules(
    r"mask_feat_head\.conv_pred\.0\.conv",
    r"mask_feat_head\.conv_pred\.0\.gn",
    "mask_feature/predict",
  ),
)

SOLO = (
  *BACKBONE_AND_NECK,
  *tower_rules(r"bbox_head\.cate_convs", "category_convs"),
  *tower_rules(r"bbox_head\.ins_convs", "mask_convs"),
  *conv_rules(r"bbox_head\.solo_cate", "category"),
  *conv_rules(r"bbox_head\.solo_ins_list\.(\d)", r"mask_\1"),
)

DECOUPLED_SOLO = (
  *BACKBONE_AND_NECK,
  *tower_rules(r"bbox_head\.cate_convs", "category_convs"),
  *tower_rules(r"bbox_head\.ins_convs", "mask_convs"),  # light
  *tower_rules(r"bbox_head\.ins_convs_x", "mask_x_convs"),
  *tower_rules(r"bbox_head\.ins_convs_y", "mask_y_convs"),
  *conv_rules(r"bbox_head\.dsolo_cate", "category"),
  *conv_rules(r"bbox_head\.dsolo_ins_list_x\.(\d)", r"mask_x_\1"),
  *conv_rules(r"bbox_head\.dsolo_ins_list_y\.(\d)", r"mask_y_\1"),
)
