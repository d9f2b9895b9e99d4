"""Reads one checkpoint from its folder.

A folder is not trusted: its declared sizes are compared with its contents
before memory is allocated, and it cannot cause imports or reads of other files.
"""

import json
import math
import shlex
from typing import Any

import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from solo_jax.checkpoints.damage import check_signed, reason
from solo_jax.config import from_json, to_json
from solo_jax.errors import UserError

# Information in a checkpoint; all but the required may be missing.
_REQUIRED = ("config", "class_names", "category_ids")
_KNOWN = (*_REQUIRED, "data", "converted_from", "fresh")
# Declared bytes per byte in the files. Trained numbers hardly compress, but
# frozen layers have a momentum of zeros.
_MAX_RATIO = 32
_FREE_BYTES = 2**26
_MAX_INFO_BYTES = 2**26
_MAX_DIMENSIONS = 32


def read(folder: epath.Path, *, is_unsigned_read: bool = False) -> dict:
  """Returns a checkpoint.

  Args:
    folder: Folder of one checkpoint, with any name; gs:// too.
    is_unsigned_read: Whether to also read one without a checksum.

  Returns:
    'state': nested dicts of numpy arrays; 'info': its information, the config
    upgraded to the current fields.

  Raises:
    UserError: If it is damaged, declares more than it holds, or has no
      checksum.
  """
  try:
    info = _read_info(folder)
    _check_declared(folder / "state")
    state = ocp.StandardCheckpointHandler().restore(
      folder / "state", args=ocp.args.StandardRestore()
    )
    state = jax.tree.map(np.asarray, state)
    is_signed = check_signed(info, state)
    unknown = sorted(set(info) - set(_KNOWN))
    if unknown or not set(_REQUIRED) <= set(info):
      raise ValueError(
        f"it has the fields {', '.join(map(ascii, sorted(info)))}; expected "
        f"{', '.join(_KNOWN)}"
      )
    info["config"] = json.loads(to_json(from_json(json.dumps(info["config"]))))
  except Exception as error:  # damage causes various exceptions
    raise UserError(
      f"checkpoint {folder} cannot be read ({reason(error)}); remove the "
      "folder to use an older one"
    ) from error
  if not is_signed and not is_unsigned_read:
    raise UserError(
      f"checkpoint {folder} has no checksum: it was saved by an old version, "
      "or changed later. If you trust its source, save it again with one: "
      f"python -m solo_jax.convert {shlex.quote(f'--checkpoint={folder}')} "
      "--out=..."
    )
  return {"state": state, "info": info}


def read_config(folder: epath.Path) -> ml_collections.ConfigDict:
  """Returns the config of a checkpoint, without reading its arrays.

  Args:
    folder: Folder of one checkpoint.

  Returns:
    The config with the fields that configs have today, locked.

  Raises:
    UserError: If it cannot be read.
  """
  try:
    return from_json(json.dumps(_read_info(folder)["config"]))
  except Exception as error:  # damage causes various errors
    raise UserError(
      f"the config of checkpoint {folder} cannot be read ({reason(error)})"
    ) from error


def check_opens(folder: epath.Path) -> None:
  """Checks that a checkpoint can be opened and has all its arrays.

  Args:
    folder: Folder of one checkpoint.

  Raises:
    Exception: Various kinds, if it cannot.
  """
  if "checksum" not in _read_info(folder):
    raise ValueError("it has no checksum")
  _check_declared(folder / "state")


def _read_info(folder: epath.Path) -> dict[str, Any]:
  path = folder / "info" / "metadata"
  if path.stat().length > _MAX_INFO_BYTES:
    raise ValueError(f"{path} is far too large")
  info = json.loads(path.read_bytes())
  if not isinstance(info, dict):
    raise ValueError(f"{path} is not a JSON object")
  return info


def _check_declared(folder: epath.Path) -> None:
  """Raises for arrays that need far more memory than their files contain."""
  arrays = ocp.StandardCheckpointHandler().metadata(folder)
  arrays = jax.tree.leaves(getattr(arrays, "tree", arrays))
  declared = 0
  for array in arrays:
    shapes = [array.shape]
    if array.storage is not None:  # chunks are decoded as a whole
      shapes += [array.storage.chunk_shape or ()]
    if max(map(len, shapes)) > _MAX_DIMENSIONS:
      raise ValueError(f"an array of {max(map(len, shapes))} dimensions")
    declared += max(map(math.prod, shapes)) * np.dtype(array.dtype).itemsize
  held = _num_bytes(folder)
  if declared > _MAX_RATIO * held + _FREE_BYTES:
    raise ValueError(
      f"its arrays declare {declared:,} bytes, but its files have {held:,}"
    )


def _num_bytes(folder: epath.Path, depth: int = 4) -> int:
  """Returns the bytes of all files; listed, as a path may have brackets."""
  if not folder.is_dir():
    return folder.stat().length
  return sum(_num_bytes(x, depth - 1) for x in folder.iterdir() if depth)
