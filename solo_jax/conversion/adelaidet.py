"""Names of AdelaiDet's SOLOv2, on detectron2's backbone and pyramid.

Note: `mask_head.` is the mask-feature branch here, but the whole head in
mmdetection.
"""

from solo_jax.conversion.detectron2 import backbone_rules
from solo_jax.conversion.mapping import Rule, conv_norm_rules, conv_rules

NUM_TOWER_CONVS = 4

_NECK = tuple(
  rule
  for source, target in (("lateral", "lateral"), ("output", "output"))
  for rule in conv_rules(rf"backbone\.fpn_{source}(\d)", rf"fpn/{target}_\1")
)


def _tower_rules(source: str, target: str) -> tuple[Rule, ...]:
  """Returns a tower's rules; every layer is convolution, norm and ReLU."""
  return tuple(
    rule
    for i in range(NUM_TOWER_CONVS)
    for rule in conv_norm_rules(
      rf"{source}\.{3 * i}", rf"{source}\.{3 * i + 1}", f"{target}_{i}"
    )
  )


_MASK_CONV = r"mask_head\.convs_all_levels\.(\d)\.conv(\d)"

SOLOV2 = (
  *backbone_rules(r"backbone\.bottom_up\.", "backbone/"),
  *_NECK,
  *_tower_rules(r"ins_head\.cate_tower", "category_convs"),
  *_tower_rules(r"ins_head\.kernel_tower", "kernel_convs"),
  *conv_rules(r"ins_head\.cate_pred", "category"),
  *conv_rules(r"ins_head\.kernel_pred", "kernel"),
  *conv_norm_rules(
    rf"{_MASK_CONV}\.0", rf"{_MASK_CONV}\.1", r"mask_feature/level\1_conv\2"
  ),
  *conv_norm_rules(
    r"mask_head\.conv_pred\.0",
    r"mask_head\.conv_pred\.1",
    "mask_feature/predict",
  ),
  Rule(r"pixel_(mean|std)", None),  # the config has them
)
