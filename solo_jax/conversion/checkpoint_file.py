"""Reads the weights of a foreign checkpoint and removes their wrappers.

Formats: `.pth` and `.bin` of both layouts (see `torch_file`), `.safetensors`
and `.pkl` of NumPy arrays (see `numpy_pickle`). Wrappers: the entry
'state_dict' (SOLO, mmdetection) or 'model' (detectron2, AdelaiDet), the prefix
'module.' of parallel training, averaged weights next to the plain ones.
"""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
from etils import epath

from solo_jax import file_kinds
from solo_jax.conversion import numpy_pickle, torch_file
from solo_jax.errors import UserError

WRAPPERS = ("state_dict", "model")
EMA_ENTRY = "ema_state_dict"  # of mmengine
EMA_PREFIX = "ema_"  # of mmcv: ema_backbone_conv1_weight
PARALLEL_PREFIX = "module."
SAFETENSORS_DTYPES = {
  "F64": np.dtype("<f8"),
  "F32": np.dtype("<f4"),
  "F16": np.dtype("<f2"),
  "BF16": np.dtype(ml_dtypes.bfloat16),
  "I64": np.dtype("<i8"),
  "I32": np.dtype("<i4"),
  "I16": np.dtype("<i2"),
  "I8": np.dtype("i1"),
  "U8": np.dtype("u1"),
  "BOOL": np.dtype("?"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """The contents of a file.

  Attributes:
    arrays: Weights by name without wrappers, shapes and dtypes as stored.
    class_names: Class names stored next to the weights, or None.
    notes: What was unwrapped and ignored, for display.
  """

  arrays: dict[str, np.ndarray]
  class_names: tuple[str, ...] | None
  notes: tuple[str, ...]


def read(path: str | os.PathLike, *, use_ema: bool = False) -> Source:
  """Returns the contents of a checkpoint.

  mmengine, and mmcv if its EMA hook runs before saving, store the averaged
  weights under the plain names and the others under the name EMA, so the plain
  names are used by default.

  Args:
    path: A `.pth`, `.pt`, `.bin`, `.safetensors` or `.pkl` file.
    use_ema: Use the weights called EMA instead of those with plain names.

  Returns:
    The weights.

  Raises:
    FileNotFoundError: If there is no such file.
    UserError: If it is truncated, has another format, would run code, or
      contains no weights (or none called EMA if `use_ema`).
  """
  path = epath.Path(path)
  try:
    content = _read_any(path)
  except UserError as error:
    with path.open("rb") as file:
      found = file_kinds.what_it_is(file.read(256))
    if found in (file_kinds.UNKNOWN, file_kinds.ZIP):
      raise
    raise UserError(f"{path}: no weights; the file is {found}") from error
  if not isinstance(content, dict):
    raise UserError(
      f"{path}: expected a state dict of arrays, at the top or under one of "
      f"{WRAPPERS}; found a {type(content).__name__}."
    )
  notes = []
  arrays = _unwrap(path, content, notes)
  averages = _averages(content, arrays)
  if use_ema and not averages:
    raise UserError(
      f"{path}: expected averaged weights under {EMA_ENTRY!r} or the prefix "
      f"{EMA_PREFIX!r}, found none; convert without --ema."
    )
  buffers = {_buffer_name(name) for name in arrays}
  plain = {
    name: array
    for name, array in arrays.items()
    if not (name.startswith(EMA_PREFIX) and name in buffers)
  }
  if use_ema:
    plain |= averages
    notes.append(f"used the {len(averages)} arrays called EMA")
  elif averages:
    notes.append(
      f"ignored {len(averages)} arrays called EMA: the plain names hold the "
      "averaged weights, unless EMA was applied after saving (then use --ema)"
    )
  return Source(
    arrays=plain, class_names=_class_names(content), notes=tuple(notes)
  )


def _read_any(path: epath.Path) -> Any:
  if path.suffix == ".safetensors":
    return read_safetensors(path)
  if path.suffix == ".pkl":
    return numpy_pickle.read(path)
  return torch_file.read(path)


def read_safetensors(path: epath.Path) -> dict[str, np.ndarray]:
  """Returns the contents of a `.safetensors` file.

  Args:
    path: The file.

  Returns:
    Arrays by name, shapes and dtypes as stored.

  Raises:
    FileNotFoundError: If there is no such file.
    UserError: If it is truncated or has another format.
  """
  data = path.read_bytes()
  try:
    return {  # the library checks the places of all tensors first
      name: np.frombuffer(
        part["data"], SAFETENSORS_DTYPES[part["dtype"]]
      ).reshape(part["shape"])
      for name, part in safetensors.deserialize(data)
    }
  except KeyError as error:
    raise UserError(
      f"{path}: arrays of type {error.args[0]} are not read; save the weights "
      "as F32"
    ) from error
  except (safetensors.SafetensorError, ValueError) as error:
    raise UserError(
      f"{path}: not a .safetensors file, truncated or damaged ({error}); "
      "download or save it again."
    ) from error


def _unwrap(
  path: epath.Path, content: dict, notes: list[str]
) -> dict[str, np.ndarray]:
  """Returns the state dict, without the prefix of parallel training."""
  found = content
  for wrapper in WRAPPERS:
    if isinstance(content.get(wrapper), dict):
      found = content[wrapper]
      others = [str(key) for key in content if key != wrapper][:10]
      notes.append(
        f"weights under {wrapper!r}"
        + (f"; ignored {', '.join(others)}" if others else "")
      )
      break
  arrays = _arrays(found)
  if not arrays:
    keys = [str(key)[:40] for key in found][:10]
    raise UserError(
      f"{path}: expected a state dict of arrays, at the top or under one of "
      f"{WRAPPERS}; found a dict with keys {keys}."
    )
  return _without_prefix(arrays, notes)


def _arrays(entries: Mapping[Any, Any]) -> dict[str, np.ndarray]:
  return {
    name: value
    for name, value in entries.items()
    if isinstance(name, str) and isinstance(value, np.ndarray)
  }


def _without_prefix(
  arrays: dict[str, np.ndarray], notes: list[str]
) -> dict[str, np.ndarray]:
  if not all(name.startswith(PARALLEL_PREFIX) for name in arrays):
    return arrays
  notes.append(f"took the prefix {PARALLEL_PREFIX!r} off")
  return {
    name.removeprefix(PARALLEL_PREFIX): array for name, array in arrays.items()
  }


def _averages(
  content: dict, arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Returns the EMA weights under their plain names."""
  entry = content.get(EMA_ENTRY)
  if isinstance(entry, dict):
    found = {
      name.removeprefix(PARALLEL_PREFIX): array
      for name, array in _arrays(entry).items()
    }
    return {name: array for name, array in found.items() if name in arrays}
  return {
    name: arrays[_buffer_name(name)]
    for name in arrays
    if _buffer_name(name) in arrays
  }


def _buffer_name(name: str) -> str:
  """Returns mmcv's name for a parameter's average, which has no dots."""
  return EMA_PREFIX + name.replace(".", "_")


def _class_names(content: dict) -> tuple[str, ...] | None:
  """Returns the classes in 'meta' (mmcv's 'CLASSES' or mmengine's)."""
  meta = content.get("meta")
  if not isinstance(meta, dict):
    return None
  dataset = meta.get("dataset_meta")
  dataset = dataset if isinstance(dataset, dict) else {}
  for names in (
    meta.get("CLASSES"),
    dataset.get("classes"),
    dataset.get("CLASSES"),
  ):
    if isinstance(names, list | tuple) and all(
      isinstance(name, str) for name in names
    ):
      return tuple(names)
  return None
