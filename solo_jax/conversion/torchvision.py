"""ResNets and ResNeXts of torchvision, from which published backbones start.

mmdetection and the official SOLO code keep these names below `backbone.`, and
add the offsets of deformable convolutions.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from solo_jax.conversion import checkpoint_file
from solo_jax.conversion.mapping import CONV, Rule, convert, norm_rules


def backbone_rules(source: str = "", target: str = "") -> tuple[Rule, ...]:
  r"""Returns the rules of a ResNet.

  Args:
    source: Regular expression before every name, such as r'backbone\.'.
    target: Path before every target, such as 'backbone/'.

  Returns:
    The rules.
  """
  layer, block = rf"{source}layer(\d)\.(\d+)", rf"{target}layer\1_\2"
  # The name in files of mmdetection before 1.0 ends in `conv2_offset`.
  offset = rf"{layer}\.conv2(?:\.conv)?_offset"
  return (
    Rule(rf"{source}conv1\.weight", f"params/{target}conv1/kernel", CONV),
    *norm_rules(rf"{source}bn1", f"{target}bn1"),
    Rule(rf"{layer}\.conv(\d)\.weight", rf"params/{block}/conv\3/kernel", CONV),
    *norm_rules(rf"{layer}\.bn(\d)", rf"{block}/bn\3"),
    Rule(rf"{offset}\.weight", f"params/{block}/conv2/offset/kernel", CONV),
    Rule(rf"{offset}\.bias", f"params/{block}/conv2/offset/bias"),
    Rule(
      rf"{layer}\.downsample\.0\.weight",
      f"params/{block}/downsample_conv/kernel",
      CONV,
    ),
    *norm_rules(rf"{layer}\.downsample\.1", f"{block}/downsample_bn"),
  )


BACKBONE = (
  *backbone_rules(),
  Rule(r"fc\.(weight|bias)", None),  # the ImageNet classifier
)


def convert_backbone(
  arrays: Mapping[str, np.ndarray], target: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns a converted ResNet or ResNeXt without the ImageNet classifier.

  Args:
    arrays: State dict with torchvision's names. Convolutions OIHW.
    target: {'params', 'batch_stats'} of `ResNet`, or their shapes.

  Returns:
    The backbone's variables, {'params', 'batch_stats'} of NumPy arrays.

  Raises:
    UserError: If anything is left over, missing or of another shape.
  """
  return convert(arrays, BACKBONE, target)


def load_backbone(
  path: str | os.PathLike, target: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the backbone of a torchvision file, read without torch.

  Args:
    path: For example `resnet50-0676ba61.pth`.
    target: {'params', 'batch_stats'} of `ResNet`, or their shapes.

  Returns:
    The backbone's variables, {'params', 'batch_stats'} of NumPy arrays.

  Raises:
    FileNotFoundError: If there is no such file.
    UserError: If the file is damaged, or does not fit the backbone.
  """
  return convert_backbone(checkpoint_file.read(path).arrays, target)
