"""Reading and checking configurations.

A config file is plain Python: `get_config(arg)` returns a locked
`ml_collections.ConfigDict` in which every field is present. `parse_arg` turns
the text after the colon of `--config=file.py:backbone=r50,schedule=3x` into
typed values; `validate` reports every problem of a configuration in one error.
"""

import json
import types
from typing import Any

import ml_collections


def parse_arg(arg: str, **defaults: Any) -> types.SimpleNamespace:
  """Parses `key=value,key=value` into values typed by their defaults.

  Args:
    arg: The text after the colon of the config flag; may be empty or None.
    **defaults: Every known key with its default. Its type (str, int, float or
      bool) is the type of the value.

  Returns:
    A namespace with one attribute per default.

  Raises:
    ValueError: On an unknown key or a value that is not of the key's type.
  """
  values = dict(defaults)
  for item in (arg or "").split(","):
    if not item:
      continue
    key, _, text = item.partition("=")
    if key not in defaults:
      known = ", ".join(f"{k}={v!r}" for k, v in defaults.items())
      raise ValueError(f"unknown config argument {key!r}; known: {known}")
    kind = type(defaults[key])
    try:
      if kind is bool:
        values[key] = {"true": True, "1": True, "false": False, "0": False}[
          text.lower()
        ]
      else:
        values[key] = kind(text)
    except (KeyError, ValueError) as error:
      raise ValueError(
        f"config argument {key}={text!r} is not a {kind.__name__}"
      ) from error
  return types.SimpleNamespace(**values)


def to_json(config: ml_collections.ConfigDict) -> str:
  """Writes a config as JSON, for a checkpoint; `from_json` reads it back."""
  return config.to_json_best_effort(indent=2)


def from_json(text: str) -> ml_collections.ConfigDict:
  """Reads what `to_json` wrote into a locked config, lists back to tuples."""

  def restore(value):
    if isinstance(value, dict):
      return {key: restore(item) for key, item in value.items()}
    if isinstance(value, list):
      return tuple(restore(item) for item in value)
    return value

  config = ml_collections.ConfigDict(restore(json.loads(text)))
  return config.lock()


CHOICES = {
  "method": ("solo", "decoupled_solo", "solov2", "associative_embedding"),
  "backbone.deformable": (None, "v1", "v2"),
  "backbone.name": ("resnet", "efficientnet_lite0"),
  "backbone.norm": ("batch", "sync", "frozen"),
  "decode.grouping": ("seed", "histogram", "mean_shift"),
  "decode.nms_kernel": ("gaussian", "linear"),
  "loss.embedding_loss": ("pull_push", "discriminative", "spatial"),
  "loss.mask_average": ("pairs", "cells"),
  "loss.mask_loss": ("dice", "lovasz"),
  "network.deformable": (None, "v1", "v2"),
  "network.deformable_convs": ("all", "last"),
  "network.embedding": ("spatial", "tag"),
  "optimizer.name": ("adamw", "sgd"),
  "optimizer.schedule": ("cosine", "step"),
  "preprocessing.channel_order": ("rgb", "bgr"),
  "preprocessing.interpolation": ("bilinear", "area", "antialias"),
  "training.precision": ("float32", "bfloat16"),
  "transforms.jitter_reference": ("fit", "original"),
  "transforms.mask_rule": ("published", "majority", "coverage"),
}

POSITIVE = (
  "dataset.num_classes",
  "decode.max_candidates",
  "decode.max_detections",
  "decode.nms_candidates",
  "evaluation.batch_size",
  "evaluation.max_detections",
  "loss.max_positives",
  "optimizer.accumulate",
  "optimizer.learning_rate",
  "optimizer.reference_batch_size",
  "training.batch_size",
  "training.checkpoint_every_steps",
  "training.log_every_steps",
  "training.num_steps",
  "transforms.max_instances",
)


def validate(config: ml_collections.ConfigDict) -> None:
  """Checks a configuration before anything is built from it.

  Args:
    config: A complete configuration, as the files of configs/ return it.

  Raises:
    ValueError: Listing every problem at once, by key, with what to do.
  """
  problems = []
  flat = dict(_flatten(config))

  def check(condition, message):
    if not condition:
      problems.append(message)

  for key, known in CHOICES.items():
    if key in flat:  # else a field of other methods
      check(
        flat[key] in known, f"{key} is {flat[key]!r}; choose one of {known}"
      )
  for key in POSITIVE:
    if key in flat:
      check(flat[key] > 0, f"{key} is {flat[key]}; it must be above 0")
  for key in ("transforms.image_size",):
    check(
      all(size > 0 and size % 32 == 0 for size in flat[key]),
      f"{key} is {flat[key]}; both sizes must be multiples of 32",
    )
  multiple = flat["preprocessing.pad_multiple"]
  check(
    multiple > 0 and multiple % 32 == 0,
    f"preprocessing.pad_multiple is {multiple}; it must be a multiple of 32",
  )
  check(
    all(stage in (1, 2, 3, 4) for stage in flat["backbone.remat"]),
    f"backbone.remat is {flat['backbone.remat']}; list stages of the backbone, "
    "1 to 4",
  )
  _check_mask_stride(flat, check)
  if flat["method"] == "associative_embedding":
    _check_embedding(flat, check)
  else:
    _check_grids(flat, check)
  check(
    flat["training.batch_size"] % flat["optimizer.accumulate"] == 0,
    f"training.batch_size is {flat['training.batch_size']}; it must be a "
    f"multiple of optimizer.accumulate, {flat['optimizer.accumulate']}",
  )
  check(
    flat["evaluation.max_detections"] >= flat["decode.max_detections"],
    f"decode.max_detections is {flat['decode.max_detections']}, more than the "
    f"{flat['evaluation.max_detections']} of evaluation.max_detections, which "
    "would go unscored",
  )
  tile_size = flat["preprocessing.tile_size"]
  overlap = flat["preprocessing.tile_overlap"]
  check(
    tile_size is None or 0 <= overlap < tile_size,
    f"preprocessing.tile_overlap is {overlap}; it must be from 0 to below "
    f"preprocessing.tile_size, {tile_size}",
  )
  jitter = flat["transforms.scale_jitter"]
  check(
    jitter is None or 0 < jitter[0] <= jitter[1],
    f"transforms.scale_jitter is {jitter}; give (low, high) above 0",
  )
  check(
    flat["backbone.weights"] != "efficientnet_lite0"
    or flat["backbone.name"] == "efficientnet_lite0",
    "backbone.weights is 'efficientnet_lite0' and backbone.name "
    f"{flat['backbone.name']!r}; these weights fit their own backbone only",
  )
  if problems:
    raise ValueError(
      "the configuration has problems:\n"
      + "\n".join(f"  - {problem}" for problem in problems)
    )


def _check_mask_stride(flat, check):
  """Checks that masks of this resolution can be trained."""
  targets = flat["transforms.mask_stride"]
  if "network.mask_stride" in flat:
    stride = flat["network.mask_stride"]
    check(
      stride in (2, 4), f"network.mask_stride is {stride}; it must be 2 or 4"
    )
    check(
      stride == targets,
      f"network.mask_stride is {stride} and transforms.mask_stride is "
      f"{targets}; they must be equal",
    )
    return
  # SOLO: each level has masks, of twice the resolution of its map.
  strides = flat["network.strides"]
  check(
    all(
      s == 2 * targets or (s > 0 and s % (4 * targets) == 0) for s in strides
    ),
    f"network.strides is {strides} and transforms.mask_stride {targets}; half "
    "of every stride must be transforms.mask_stride, or an even multiple of it",
  )


def _check_grids(flat, check):
  """Checks what only the methods that predict on grids have."""
  levels = flat["network.levels"]
  for key in ("network.strides", "network.num_grids", "loss.scale_ranges"):
    check(
      len(flat[key]) == len(levels),
      f"{key} has {len(flat[key])} entries and network.levels {len(levels)}; "
      "there must be one for each level",
    )
  check(
    all(level in (2, 3, 4, 5, 6) for level in levels),
    f"network.levels is {levels}; the pyramid has levels 2 to 6",
  )
  num_groups = flat["network.num_groups"]
  for key in ("head_channels", "mask_channels", "kernel_channels"):
    if f"network.{key}" in flat:  # the last two: SOLOv2's
      channels = flat[f"network.{key}"]
      check(
        channels % num_groups == 0,
        f"network.{key} is {channels}; it must be a multiple of "
        f"network.num_groups, {num_groups}",
      )


def _check_embedding(flat, check):
  """Checks what only associative embedding has."""
  kind, loss = flat["network.embedding"], flat["loss.embedding_loss"]
  check(
    (kind == "spatial") == (loss == "spatial"),
    f"network.embedding is {kind!r} and loss.embedding_loss {loss!r}; "
    "'spatial' goes with 'spatial', 'tag' with the other losses",
  )
  tag_channels = flat["network.tag_channels"]
  check(
    kind != "spatial" or tag_channels == 2,
    f"network.tag_channels is {tag_channels}; a spatial embedding has 2",
  )
  check(
    flat["decode.grouping"] != "histogram" or tag_channels <= 2,
    f"network.tag_channels is {tag_channels}; decode.grouping='histogram' "
    "bins at most 2",
  )
  known = ("category", "membership", "quality", "seed")
  check(
    set(flat["decode.score_terms"]) <= set(known),
    f"decode.score_terms is {flat['decode.score_terms']}; choose from {known}",
  )
  check(
    len(flat["decode.radii"]) > 0 and min(flat["decode.radii"]) > 0,
    f"decode.radii is {flat['decode.radii']}; give at least one factor above 0",
  )
  check(
    flat["network.head_channels"] % flat["network.num_groups"] == 0,
    f"network.head_channels is {flat['network.head_channels']}; it must be a "
    f"multiple of network.num_groups, {flat['network.num_groups']}",
  )


def _flatten(config, prefix=""):
  for key, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from _flatten(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", value
