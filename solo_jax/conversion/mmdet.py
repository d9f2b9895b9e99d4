"""Names of mmdetection's SOLO, Decoupled SOLO and SOLOv2 (2.x and 3.x).

One table covers every depth, width and class count: the network's shapes
decide, and `mapping.convert` reports mismatches.
"""

from solo_jax.conversion.mapping import (
  Rule,
  conv_norm_rules,
  conv_rules,
)
from solo_jax.conversion.torchvision import backbone_rules

# Pyramid convolutions are numbered from P2 there, named by level here.
NECK = tuple(
  rule
  for i in range(4)
  for source, target in (("lateral", "lateral"), ("fpn", "output"))
  for rule in conv_rules(
    rf"neck\.{source}_convs\.{i}\.conv", f"fpn/{target}_{i + 2}"
  )
)
BACKBONE_AND_NECK = backbone_rules(r"backbone\.", "backbone/") + NECK


def tower_rules(source: str, target: str) -> tuple[Rule, ...]:
  r"""Returns the rules of a tower of numbered convolutions with group norm.

  Args:
    source: Regular expression of the tower's name.
    target: Path of its layers before the number.

  Returns:
    The rules.
  """
  return conv_norm_rules(
    rf"{source}\.(\d+)\.conv", rf"{source}\.(\d+)\.gn", rf"{target}_\1"
  )


_MASK_FEATURE = r"mask_head\.mask_feature_head"
_MASK_CONV = rf"{_MASK_FEATURE}\.convs_all_levels\.(\d)\.conv(\d)"

SOLOV2 = (
  *BACKBONE_AND_NECK,
  *tower_rules(r"mask_head\.cls_convs", "category_convs"),
  *tower_rules(r"mask_head\.kernel_convs", "kernel_convs"),
  *conv_rules(r"mask_head\.conv_cls", "category"),
  *conv_rules(r"mask_head\.conv_kernel", "kernel"),
  *conv_norm_rules(
    rf"{_MASK_CONV}\.conv", rf"{_MASK_CONV}\.gn", r"mask_feature/level\1_conv\2"
  ),
  *conv_norm_rules(
    rf"{_MASK_FEATURE}\.conv_pred\.conv",
    rf"{_MASK_FEATURE}\.conv_pred\.gn",
    "mask_feature/predict",
  ),
)

SOLO = (
  *BACKBONE_AND_NECK,
  *tower_rules(r"mask_head\.cls_convs", "category_convs"),
  *tower_rules(r"mask_head\.mask_convs", "mask_convs"),
  *conv_rules(r"mask_head\.conv_cls", "category"),
  *conv_rules(r"mask_head\.conv_mask_list\.(\d)", r"mask_\1"),
)

DECOUPLED_SOLO = (
  *BACKBONE_AND_NECK,
  *tower_rules(r"mask_head\.cls_convs", "category_convs"),
  *tower_rules(r"mask_head\.mask_convs", "mask_convs"),  # light
  *tower_rules(r"mask_head\.mask_convs_x", "mask_x_convs"),
  *tower_rules(r"mask_head\.mask_convs_y", "mask_y_convs"),
  *conv_rules(r"mask_head\.conv_cls", "category"),
  *conv_rules(r"mask_head\.conv_mask_list_x\.(\d)", r"mask_x_\1"),
  *conv_rules(r"mask_head\.conv_mask_list_y\.(\d)", r"mask_y_\1"),
)
