"""Copies fields from the checkpoint a run starts from, unless they are set.

Weights need the input that they were trained with, and frozen statistics the
layers that were frozen. Shapes reveal neither.
"""

from collections.abc import Collection

import ml_collections
from etils import epath

from solo_jax.checkpoints.folders import find_checkpoint
from solo_jax.checkpoints.reading import read_config
from solo_jax.config import stated
from solo_jax.errors import UserError
from solo_jax.weights import find_folder

FOLLOWING = (
  "preprocessing.channel_order",
  "preprocessing.mean",
  "preprocessing.std",
  "preprocessing.interpolation",
  "backbone.stride_in_1x1",
  "backbone.norm",
  "backbone.frozen_stages",
)


def follow(
  config: ml_collections.ConfigDict, workdir: str, given: Collection[str]
) -> list[str]:
  """Returns lines about fields copied from `training.init_from`.

  A resumed run copies them from its own checkpoints and no longer needs the
  other one.

  Args:
    config: Config of the run; changed in place.
    workdir: Folder of the run.
    given: Names of fields set on the command line. These keep their values, and
      so do fields that the config file sets to non-default values.

  Returns:
    One line per changed field.

  Raises:
    UserError: If the checkpoint cannot be downloaded or read.
  """
  path = config.training.init_from
  if path is None:
    return []
  saved = _own_config(workdir)
  if saved is None:
    saved = read_config(find_checkpoint(find_folder(path)))
  kept = {field.name for field, _ in stated(config)}.union(given)
  lines = []
  for name in FOLLOWING:
    section, _, key = name.partition(".")
    if name in kept or not (key in config[section] and key in saved[section]):
      continue
    if config[section][key] != saved[section][key]:
      config[section][key] = saved[section][key]
      lines.append(f"{name}={saved[section][key]!r}, as in {path}")
  return lines


def _own_config(workdir: str) -> ml_collections.ConfigDict | None:
  """Returns the config of the newest checkpoint of a run, None without one."""
  if not (epath.Path(workdir) / "checkpoints").is_dir():
    return None
  try:
    return read_config(find_checkpoint(workdir))
  except UserError:  # none, or it is damaged: `restore` reports that
    return None
