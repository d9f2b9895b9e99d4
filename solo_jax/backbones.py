"""The table of backbones, the only place where a name selects one.

To add a backbone, add a file to nn/backbones/ and a row to BACKBONES.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from solo_jax import errors
from solo_jax.conversion import efficientnet_lite as lite_weights
from solo_jax.conversion import swin as swin_weights
from solo_jax.conversion import torchvision
from solo_jax.conversion import yolact as yolact_weights
from solo_jax.nn.backbones import darknet, efficientnet_lite, resnet, swin


@dataclasses.dataclass(frozen=True)
class Backbone:
  """A row of the table.

  Attributes:
    make: (**section, dtype, axis_name) -> module, (x [B, H, W, 3], *, train,
      row=None) -> maps at strides 4, 8, 16 and 32. `section` is the config's,
      without `name` and `weights`.
    is_frozen: (top-level name of a parameter, frozen_stages) -> whether it
      belongs to a frozen stage.
    load: (`backbone.weights`, variables) -> pretrained variables of the same
      structure, {'params', 'batch_stats'}.
  """

  make: Callable[..., Any]
  is_frozen: Callable[[str, int], bool]
  load: Callable[[str, Mapping[str, Any]], dict[str, Any]]


def load_resnet(weights: str, target: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a ResNet's variables, read from a torchvision file.

  Args:
    weights: Its path.
    target: {'params', 'batch_stats'} of the ResNet.

  Returns:
    The backbone's variables.

  Raises:
    errors.UserError: If there is no such file.
  """
  if not epath.Path(weights).exists():
    raise errors.UserError(
      f"backbone.weights={weights!r} is neither a file nor a name of published "
      "weights (python -m solo_jax.convert --list); give a torchvision ResNet "
      "(.pth) or set it to None"
    )
  return torchvision.load_backbone(weights, target)


def load_darknet(weights: str, target: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a DarkNet's variables, read from the file of YOLACT's authors.

  Args:
    weights: Its path.
    target: {'params', 'batch_stats'} of the DarkNet.

  Returns:
    The backbone's variables.

  Raises:
    errors.UserError: If there is no such file.
  """
  if not epath.Path(weights).exists():
    raise errors.UserError(
      f"backbone.weights={weights!r} is not a file; download darknet53.pth of "
      "YOLACT's authors or set it to None"
    )
  return yolact_weights.load_darknet(weights, target)


def load_lite0(weights: str, target: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the ImageNet weights of the installed package.

  Args:
    weights: 'efficientnet_lite0'.
    target: {'params', 'batch_stats'} of the backbone.

  Returns:
    The backbone's variables.

  Raises:
    errors.UserError: If `weights` has any other value.
    FileNotFoundError: If the package is not installed.
  """
  if weights != "efficientnet_lite0":
    raise errors.UserError(
      f"backbone.weights={weights!r}: EfficientNet-Lite0 has one set of "
      "weights, 'efficientnet_lite0', from an installed package; or set it "
      "to None"
    )
  return lite_weights.load_backbone(target)


def make_swin(*, axis_name: str | None, **section: Any) -> swin.Swin:
  """Returns a Swin Transformer, which gathers nothing over devices."""
  del axis_name
  return swin.Swin(**section)


def load_swin(weights: str, target: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the backbone of a classifier from the original repository.

  Args:
    weights: Its path.
    target: {'params'} of the Swin Transformer.

  Returns:
    The backbone's variables.

  Raises:
    errors.UserError: If there is no such file.
  """
  if not epath.Path(weights).exists():
    raise errors.UserError(
      f"backbone.weights={weights!r} is not a file; download a classifier of "
      "the Swin Transformer's authors (swin_tiny_patch4_window7_224.pth, ...) "
      "or set it to None"
    )
  return swin_weights.load_backbone(weights, target)


BACKBONES = {
  "resnet": Backbone(resnet.ResNet, resnet.is_frozen, load_resnet),
  "efficientnet_lite0": Backbone(
    efficientnet_lite.EfficientNetLite0,
    efficientnet_lite.is_frozen,
    load_lite0,
  ),
  "darknet": Backbone(darknet.DarkNet, darknet.is_frozen, load_darknet),
  "swin": Backbone(make_swin, swin.is_frozen, load_swin),
}


def find(name: str) -> Backbone:
  """Returns a row of the table.

  Args:
    name: A key of BACKBONES.

  Raises:
    errors.UserError: If the name is unknown.
  """
  if name not in BACKBONES:
    raise errors.UserError(
      f"backbone.name={name!r} is unknown; choose one of {sorted(BACKBONES)}"
    )
  return BACKBONES[name]


def make_backbone(
  section: Mapping[str, Any], *, dtype: Any, axis_name: str | None
) -> Any:
  """Returns the backbone of a config, without loading its weights.

  Args:
    section: The config's section `backbone`.
    dtype: Compute type.
    axis_name: Mapped device axis for norm 'sync'.

  Returns:
    The module.
  """
  fields = dict(section)
  row = find(fields.pop("name"))
  del fields["weights"]
  return row.make(**fields, dtype=dtype, axis_name=axis_name)


def load_pretrained(
  variables: dict[str, Any], section: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns variables with the backbone's replaced by pretrained ones.

  Args:
    variables: Initial {'params', 'batch_stats'} of the whole network.
    section: The config's section `backbone`: `name` and `weights`.

  Returns:
    The variables to start from.

  Raises:
    errors.UserError: If the weights belong to another backbone.
    FileNotFoundError: If they do not exist.
    ValueError: If they do not fit the backbone.
  """
  weights = section["weights"]
  if weights is None:
    return variables
  # A backbone without batch norm has no statistics.
  target = {
    name: tree["backbone"]
    for name, tree in variables.items()
    if "backbone" in tree
  }
  loaded = find(section["name"]).load(weights, target)
  return variables | {
    name: {**variables[name], "backbone": tree} for name, tree in loaded.items()
  }


def frozen_rule(section: Mapping[str, Any]) -> Callable[[str], bool]:
  """Returns the rule that selects the backbone's frozen parameters.

  Args:
    section: The config's section `backbone`.

  Returns:
    A function: path of a parameter in the backbone's tree -> whether it is
    frozen.
  """
  row, stages = find(section["name"]), section["frozen_stages"]
  are_norms = "norm" in section and section["norm"] == "constant"
  return lambda path: (
    row.is_frozen(path.split("/")[0], stages) or (are_norms and "bn" in path)
  )
