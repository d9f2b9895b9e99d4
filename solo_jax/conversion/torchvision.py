"""ImageNet weights of torchvision ResNets, the published backbones' start."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from solo_jax.conversion import mmdet, torch_file
from solo_jax.conversion.mapping import convert


def convert_backbone(
  arrays: Mapping[str, np.ndarray], target: Mapping[str, Any]
) -> dict[str, Any]:
  """Converts a ResNet-18/34/50/101; the ImageNet classifier is dropped.

  Args:
    arrays: State dict with torchvision's names. Convolutions OIHW.
    target: {'params', 'batch_stats'} of `ResNet`, or their shapes.

  Returns:
    The backbone's variables, {'params', 'batch_stats'} of NumPy arrays.

  Raises:
    ValueError: If anything is left over, missing or of another shape.
  """
  # mmdetection keeps torchvision's names below `backbone.`.
  arrays = {
    f"backbone.{name}": array
    for name, array in arrays.items()
    if name not in ("fc.weight", "fc.bias")
  }
  nested = {name: {"backbone": tree} for name, tree in target.items()}
  converted = convert(arrays, mmdet.BACKBONE, nested)
  return {name: tree["backbone"] for name, tree in converted.items()}


def load_backbone(
  path: str | Path, target: Mapping[str, Any]
) -> dict[str, Any]:
  """Reads a `.pth` file of torchvision for the backbone, without torch.

  Args:
    path: For example `resnet50-0676ba61.pth`.
    target: {'params', 'batch_stats'} of `ResNet`, or their shapes.

  Returns:
    The backbone's variables, {'params', 'batch_stats'} of NumPy arrays.

  Raises:
    FileNotFoundError: If there is no such file.
    ValueError: If the file is damaged, or does not fit the backbone.
  """
  return convert_backbone(torch_file.read_state_dict(path), target)
