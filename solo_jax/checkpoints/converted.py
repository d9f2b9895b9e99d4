"""Saves weights that were not trained here as a checkpoint."""

import json
from typing import Any

import ml_collections
import numpy as np
import orbax.checkpoint as ocp

from solo_jax.checkpoints.damage import sign
from solo_jax.checkpoints.folders import absolute, check_writable, children
from solo_jax.checkpoints.reading import check_opens
from solo_jax.config import to_json
from solo_jax.errors import UserError


def save_converted(
  folder: str,
  *,
  variables: dict[str, Any],
  config: ml_collections.ConfigDict,
  class_names: tuple[str, ...],
  category_ids: tuple[int, ...],
  origin: dict[str, Any],
) -> None:
  """Saves weights that were not trained here, as the step 0 of a run.

  Args:
    folder: Folder of the run; created, must be new or empty.
    variables: {'params', 'batch_stats'} of numpy arrays.
    config: Config of their network.
    class_names: Name of each label 0..K-1.
    category_ids: The dataset's own id of each label.
    origin: Source of the weights, for readers of the checkpoint; plain JSON.

  Raises:
    UserError: If the folder is not empty or cannot be created.
  """
  check_writable(folder)
  path = absolute(folder)
  if path.exists() and (not path.is_dir() or children(path)):
    raise UserError(
      f"{path} already exists and is not an empty folder; remove it or choose "
      "another one"
    )
  info = {
    "config": json.loads(to_json(config)),
    "class_names": list(class_names),
    "category_ids": [int(x) for x in category_ids],
    "converted_from": origin,
  }
  state = {"batch_stats": {}, **variables}  # none without batch norm
  state |= {"step": np.int32(0), "ema_params": None}
  with ocp.CheckpointManager(path / "checkpoints") as manager:
    manager.save(
      0,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        info=ocp.args.JsonSave(sign(info, state)),
      ),
    )
    manager.wait_until_finished()
    check_opens(path / "checkpoints" / "0")
