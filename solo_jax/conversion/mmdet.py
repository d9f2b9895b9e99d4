"""Key table of mmdet 3.x SOLOv2 checkpoints.

One table serves every depth, width and class count: the network's own shapes
decide, and `mapping.convert` reports whatever does not fit.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from solo_jax.conversion.mapping import CONV, Rule, convert, norm_rules

BACKBONE = (
  Rule(r"backbone\.conv1\.weight", "params/backbone/conv1/kernel", CONV),
  *norm_rules(r"backbone\.bn1", "backbone/bn1"),
  Rule(
    r"backbone\.layer(\d)\.(\d+)\.conv(\d)\.weight",
    r"params/backbone/layer\1_\2/conv\3/kernel",
    CONV,
  ),
  *norm_rules(
    r"backbone\.layer(\d)\.(\d+)\.bn(\d)", r"backbone/layer\1_\2/bn\3"
  ),
  Rule(
    r"backbone\.layer(\d)\.(\d+)\.downsample\.0\.weight",
    r"params/backbone/layer\1_\2/downsample_conv/kernel",
    CONV,
  ),
  *norm_rules(
    r"backbone\.layer(\d)\.(\d+)\.downsample\.1",
    r"backbone/layer\1_\2/downsample_bn",
  ),
)


def _conv_rules(source: str, target: str) -> tuple[Rule, Rule]:
  return (
    Rule(rf"{source}\.weight", f"params/{target}/kernel", CONV),
    Rule(rf"{source}\.bias", f"params/{target}/bias"),
  )


def _conv_gn_rules(source: str, target: str) -> tuple[Rule, ...]:
  return (
    Rule(rf"{source}\.conv\.weight", f"params/{target}/conv/kernel", CONV),
    *norm_rules(rf"{source}\.gn", f"{target}/norm", running=False),
  )


# Pyramid convolutions are numbered from P2 there, named by level here.
NECK = tuple(
  rule
  for i in range(4)
  for source, target in (("lateral", "lateral"), ("fpn", "output"))
  for rule in _conv_rules(
    rf"neck\.{source}_convs\.{i}\.conv", f"fpn/{target}_{i + 2}"
  )
)

SOLOV2_HEAD = (
  *_conv_gn_rules(r"mask_head\.cls_convs\.(\d+)", r"category_convs_\1"),
  *_conv_gn_rules(r"mask_head\.kernel_convs\.(\d+)", r"kernel_convs_\1"),
  *_conv_rules(r"mask_head\.conv_cls", "category"),
  *_conv_rules(r"mask_head\.conv_kernel", "kernel"),
  *_conv_gn_rules(
    r"mask_head\.mask_feature_head\.convs_all_levels\.(\d)\.conv(\d)",
    r"mask_feature/level\1_conv\2",
  ),
  *_conv_gn_rules(
    r"mask_head\.mask_feature_head\.conv_pred", "mask_feature/predict"
  ),
)

SOLOV2 = BACKBONE + NECK + SOLOV2_HEAD


def convert_solov2(
  arrays: Mapping[str, np.ndarray], target: Mapping[str, Any]
) -> dict[str, Any]:
  """Converts an mmdet 3.x SOLOv2 state dict.

  Args:
    arrays: State dict, see `torch_file.read_state_dict`. Convolutions OIHW.
    target: {'params', 'batch_stats'} of the SOLOv2 network, or their shapes.

  Returns:
    The network's variables, {'params', 'batch_stats'} of NumPy arrays.

  Raises:
    ValueError: If anything is left over, missing or of another shape.
  """
  return convert(arrays, SOLOV2, target)
