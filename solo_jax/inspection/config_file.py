"""Writing a configuration as a file like those of configs/."""

import json
import textwrap
from collections.abc import Mapping
from typing import Any

import ml_collections

WIDTH = 80
SECTIONS = {  # in the order of the files, with what is said above them
  "dataset": "",
  "transforms": "Training augmentation, in the order it is applied.",
  "preprocessing": "What inference does to an image before the network.",
  "backbone": "",
  "network": "",
  "loss": "",
  "optimizer": "",
  "training": "",
  "decode": "",
  "evaluation": "",
}
# What is said about a field that keeps its value.
NOTES = {
  "dataset.name": "<builder>[/<config>] below data_dir",
  "dataset.keep_empty": "False: without images that have no instance",
  "dataset.group_by_orientation": "True: portrait batches swap the size",
  "transforms.image_size": "padded network input in training",
  "transforms.short_sides": "short side drawn from these ...",
  "transforms.max_side": "... while the long side stays within this",
  "transforms.scale_jitter": "(low, high) of large-scale jitter, or None",
  "transforms.jitter_reference": "... of the 'fit' or 'original' size",
  "transforms.color_jitter": "brightness, contrast, saturation",
  "transforms.mask_rule": "'published', 'majority' bits; 8-bit 'coverage'",
  "transforms.min_mask_area": "network pixels; smaller ones are left out",
  "preprocessing.channel_order": "'bgr' for caffe-style weights",
  "preprocessing.interpolation": "or 'area', 'antialias' when shrinking",
  "preprocessing.tile_size": "pixels of a tile of a larger image ...",
  "preprocessing.tile_overlap": "... shared with its neighbours",
  "backbone.name": "'resnet' or 'efficientnet_lite0'",
  "backbone.block": "'basic' or 'bottleneck'",
  "backbone.stem": "'conv7' or 'space_to_depth'",
  "backbone.stride_in_1x1": "True: caffe stride placement",
  "backbone.deformable": "'v1' or 'v2': deformable 3x3, C3 to C5",
  "backbone.norm": "'batch' (plain), 'sync' (over devices) or 'frozen'",
  "backbone.frozen_stages": "1: stem and first stage get no gradient",
  "backbone.weights": "'efficientnet_lite0' or a .pth file",
  "network.levels": "pyramid level that each grid reads ...",
  "network.strides": "... resized to the map of this stride",
  "network.deformable": "'v1' or 'v2': convolutions of the head",
  "network.deformable_convs": "or 'last' of each tower",
  "network.tag_radius": "of an instance; 'spatial': the initial one",
  "network.coordinate_unit": "'spatial': input pixels to a unit",
  "network.num_hourglasses": "stacked before the head",
  "loss.mask_average": "'pairs', or 'cells' as in mmdetection",
  "loss.mask_loss": "'spatial': 'dice' or 'lovasz'",
  "optimizer.name": "'adamw' or 'sgd'",
  "optimizer.learning_rate": "for reference_batch_size images a step",
  "optimizer.reference_batch_size": "linear rule: lr * batch / reference",
  "optimizer.schedule": "'cosine' or 'step'",
  "optimizer.decay_steps": "'step': x0.1 at each",
  "optimizer.momentum": "sgd",
  "optimizer.clip_norm": "None: off",
  "optimizer.accumulate": "micro-batches a step",
  "optimizer.ema_decay": "None: off",
  "training.batch_size": "global, over all devices and processes",
  "training.init_from": "folder of a checkpoint to start from",
  "training.precision": "or 'bfloat16' (convolutions only)",
  "training.eval_every_steps": "0: at the end only",
  "training.picture_every_steps": "0: never",
  "training.max_nonfinite_steps": "in a row, then the run stops",
  "decode.max_candidates": "after the score threshold",
  "decode.nms_candidates": "published nms_pre, after the area filter",
  "decode.nms_kernel": "'gaussian' or 'linear'",
  "decode.grouping": "'seed', 'histogram' or 'mean_shift'",
  "decode.radii": "factors of the radius, each with its own groups",
  "decode.min_unclaimed": "share of a group that no other has taken",
  "decode.competing": "groups share pixels out: objects that never overlap",
}


def format_config(
  config: Mapping[str, Any],
  template: ml_collections.ConfigDict,
  reasons: Mapping[str, str],
  docstring: str,
) -> str:
  """Writes a configuration as the source of a config file.

  Args:
    config: Sections as plain dicts.
    template: A configuration with the same fields; gives the types of those
      that are None, and the former values.
    reasons: Why fields were changed, by 'section.field'.
    docstring: Of the file; the first line is a summary.

  Returns:
    Python source whose `get_config()` returns `config`.
  """
  lines = [
    f'r"""{docstring.strip()}',
    '"""',
    "",
    "import ml_collections",
    "from ml_collections.config_dict import placeholder",
    "",
    "from solo_jax.config import parse_arg",
    "",
    "",
    'def get_config(arg: str = "") -> ml_collections.ConfigDict:',
    '  """Returns the configuration; `arg` takes `steps=...`."""',
    f"  arg = parse_arg(arg, steps={config['training']['num_steps']})",
    "  config = ml_collections.ConfigDict()",
    f"  config.method = {_literal(config['method'])}",
    f"  config.seed = {_literal(config['seed'])}",
  ]
  for section, title in SECTIONS.items():
    lines += ["", *([f"  # {title}"] if title else [])]
    lines += [f"  config.{section} = ml_collections.ConfigDict(", "    dict("]
    for field in json.loads(template[section].to_json_best_effort()):
      lines += _format_field(
        f"{section}.{field}",
        config[section][field],
        template[section],
        reasons,
      )
    lines += ["    )", "  )"]
  source = "\n".join([*lines, "  return config", ""])
  if "placeholder(" not in source:
    source = source.replace(f"{lines[4]}\n", "")
  return source


def _format_field(key, value, template, reasons):
  """Returns the lines of one field with its comment."""
  field = key.partition(".")[2]
  if value is None and template.get_type(field) is not type(None):
    text = f"placeholder({template.get_type(field).__name__})"
  else:
    text = _literal(value)
  if key == "training.num_steps":
    text = "arg.steps"
  line = f"      {field}={text},"
  if key in reasons:
    was = _literal(template[field])
    comment = f"Was {was}: {reasons[key]}"
    return [
      *(
        f"      # {part}"
        for part in textwrap.wrap(comment, WIDTH - len("      # "))
      ),
      line,
    ]
  note = NOTES.get(key)
  if note is None:
    return [line]
  if len(line) + len(note) + len("  # ") <= WIDTH:
    return [f"{line}  # {note}"]
  return [f"      # {note}", line]


def _literal(value: Any) -> str:
  """Writes a value as ruff would format it."""
  if isinstance(value, str):
    return json.dumps(value, ensure_ascii=False)
  if isinstance(value, (tuple, list)):
    parts = [_literal(x) for x in value]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
  return repr(value)
