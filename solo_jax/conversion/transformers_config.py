"""The config files of a transformers folder of Mask2Former.

Such a folder has `model.safetensors` or `pytorch_model.bin`, `config.json` and
`preprocessor_config.json`. Keys that these files lack have the value that
transformers gives them.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from solo_jax.errors import UserError

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# What published models were trained for, by number of classes.
TASKS = {
  80: "mask2former_coco.py:backbone=swin_t,task=instance",
  133: "mask2former_coco.py:backbone=swin_t,task=panoptic",
  8: "mask2former_cityscapes.py:backbone=swin_t,task=instance",
  19: "mask2former_cityscapes.py:backbone=swin_t,task=panoptic",
  100: "mask2former_ade20k.py:backbone=swin_t,task=instance",
  150: "mask2former_ade20k.py:backbone=swin_t,task=panoptic",
}
# Field of our config: key of config.json, value of transformers.
_NETWORK = {
  "network.num_queries": ("num_queries", 100),
  "network.channels": ("hidden_dim", 256),
  "network.mask_channels": ("mask_feature_size", 256),
  "network.num_heads": ("num_attention_heads", 8),
  "network.num_encoder_layers": ("encoder_layers", 6),
  "network.encoder_hidden": ("encoder_feedforward_dim", 1024),
  "network.decoder_hidden": ("dim_feedforward", 2048),
  "loss.category_weight": ("class_weight", 2.0),
  "loss.category_cost": ("class_weight", 2.0),
  "loss.mask_weight": ("mask_weight", 5.0),
  "loss.dice_weight": ("dice_weight", 5.0),
  "loss.no_object_weight": ("no_object_weight", 0.1),
  "loss.num_points": ("train_num_points", 12544),
  "loss.oversample_ratio": ("oversample_ratio", 3.0),
  "loss.importance_sample_ratio": ("importance_sample_ratio", 0.75),
}
_BACKBONE = {
  "backbone.embed_dim": ("embed_dim", 96),
  "backbone.depths": ("depths", [2, 2, 6, 2]),
  "backbone.num_heads": ("num_heads", [3, 6, 12, 24]),
  "backbone.window_size": ("window_size", 7),
  "backbone.mlp_ratio": ("mlp_ratio", 4.0),
  "backbone.drop_path_rate": ("drop_path_rate", 0.1),
}
# Settings of which only some values are supported: key, default of
# transformers, supported values.
_FIXED = (
  ("pre_norm", False, (False,)),
  ("enforce_input_projection", False, (False,)),
  ("enforce_input_proj", False, (False,)),
  ("common_stride", 4, (4,)),
  ("activation_function", "relu", ("relu",)),
)
_FIXED_BACKBONE = (
  ("model_type", "swin", ("swin",)),
  ("patch_size", 4, (4,)),
  ("qkv_bias", True, (True,)),
  ("use_absolute_embeddings", False, (False,)),
  ("hidden_act", "gelu", ("gelu",)),
  ("layer_norm_eps", 1e-5, (1e-5,)),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Described:
  """Contents of the files of a transformers folder.

  Attributes:
    weights: Path of the weights.
    config: File in configs/ with its argument, to start from.
    fields: Values by 'section.field' that the network of the folder has.
    class_names: Name of each label.
    notes: Lines for display.
  """

  weights: pathlib.Path
  config: str
  fields: dict[str, Any]
  class_names: tuple[str, ...]
  notes: tuple[str, ...]


def is_folder(path: str) -> bool:
  """Returns whether a path is a transformers folder."""
  return (pathlib.Path(path) / "config.json").is_file()


def read(folder: str) -> Described:
  """Reads the files of a folder; the weights are left for others.

  Args:
    folder: Its path.

  Returns:
    Their contents.

  Raises:
    UserError: If a file is missing or damaged, or the network is not supported.
  """
  root = pathlib.Path(folder)
  content = _read_json(root / "config.json")
  if content.get("model_type") != "mask2former":
    raise UserError(
      f"{root / 'config.json'} is of model_type {content.get('model_type')!r}; "
      "only mask2former is supported"
    )
  weights = [root / name for name in WEIGHTS if (root / name).is_file()]
  if not weights:
    raise UserError(f"{root}: found none of {', '.join(WEIGHTS)}")
  backbone = content.get("backbone_config") or {}
  _check_fixed(root, content, backbone)
  names = _class_names(root, content)
  fields = _take(content, _NETWORK) | _take(backbone, _BACKBONE)
  # One more than there are: the prediction before the first is counted.
  fields["network.num_decoder_layers"] = content.get("decoder_layers", 10) - 1
  fields["backbone.mlp_ratio"] = int(fields["backbone.mlp_ratio"])
  fields["dataset.num_classes"] = len(names)
  fields["transforms.max_instances"] = fields["network.num_queries"]
  config = TASKS.get(len(names))
  if config is None:  # the user's own classes
    config, fields["decode.things"] = TASKS[80], None
  most = fields["network.num_queries"] * len(names)
  fields["decode.max_detections"] = min(100, most)
  rule, notes = _read_processor(root / "preprocessor_config.json")
  return Described(
    weights=weights[0],
    config=config,
    fields=fields | rule,
    class_names=names,
    notes=notes,
  )


def _read_json(path: pathlib.Path) -> dict[str, Any]:
  try:
    content = json.loads(path.read_bytes())
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f"{path} cannot be read ({error})") from error
  if not isinstance(content, dict):
    raise UserError(f"{path} is not a JSON object")
  return content


def _take(content: Mapping, table: Mapping) -> dict[str, Any]:
  """Returns our fields; lists become tuples."""
  found = {
    field: content.get(key, default) for field, (key, default) in table.items()
  }
  return {
    field: tuple(value) if isinstance(value, list) else value
    for field, value in found.items()
  }


def _check_fixed(root: pathlib.Path, content: Mapping, backbone: Mapping):
  """Raises if the network has unsupported features."""
  problems = [
    f"  {prefix}{key} is {part[key]!r}; built here is {known[0]}"
    for prefix, part, table in (
      ("", content, _FIXED),
      ("backbone_config.", backbone, _FIXED_BACKBONE),
    )
    for key, default, known in table
    if part.get(key, default) not in known
  ]
  sizes = [content.get(key, 256) for key in ("feature_size", "hidden_dim")]
  if sizes[0] != sizes[1]:
    problems.append(f"  feature_size and hidden_dim differ: {sizes}")
  if problems:
    raise UserError(
      f"{root / 'config.json'} describes a network that is not supported:\n"
      + "\n".join(problems)
    )


def _class_names(root: pathlib.Path, content: Mapping) -> tuple[str, ...]:
  names = content.get("id2label")
  try:
    named = {int(key): str(name) for key, name in names.items()}
    return tuple(named[label] for label in range(len(named)))
  except (AttributeError, KeyError, ValueError) as error:
    raise UserError(
      f"{root / 'config.json'}: id2label must name the labels 0, 1, 2, ...; it "
      f"is {str(names)[:80]}"
    ) from error


def _read_processor(
  path: pathlib.Path,
) -> tuple[dict[str, Any], tuple[str, ...]]:
  """Returns mean and standard deviation, and the ignored settings."""
  if not path.is_file():
    return {}, (
      f"no {path.name}: the input settings are those of the authors' code",
    )
  content = _read_json(path)
  factor = content.get("rescale_factor", 1 / 255)
  rule = {
    f"preprocessing.{ours}": tuple(round(x / factor, 6) for x in content[key])
    for ours, key in (("mean", "image_mean"), ("std", "image_std"))
    if content.get("do_normalize", True) and key in content
  }
  size = content.get("size")
  return rule, (
    f"{path.name} resizes every image to {size}, whatever its shape; here "
    "images keep their aspect ratio, as for the published AP and PQ",
  )
