"""Reads PyTorch checkpoints (`.pth`, `.pt`) without PyTorch.

Both layouts of `torch.save` are supported: the zip archive of PyTorch 1.6 and
later, and the older stream of pickles followed by raw storages. The file is not
trusted: its pickles run no code (see `pickle_machine`), nothing is unpacked to
disk, and every size is checked against the file before memory is allocated.
"""

import io
import math
import os
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath

from solo_jax.conversion import pickle_machine
from solo_jax.conversion.pickle_machine import RefusedError, Storage, Tensor
from solo_jax.errors import UserError

DTYPES = {
  "DoubleStorage": np.dtype("<f8"),
  "FloatStorage": np.dtype("<f4"),
  "HalfStorage": np.dtype("<f2"),
  "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
  "LongStorage": np.dtype("<i8"),
  "IntStorage": np.dtype("<i4"),
  "ShortStorage": np.dtype("<i2"),
  "CharStorage": np.dtype("i1"),
  "ByteStorage": np.dtype("u1"),
  "BoolStorage": np.dtype("?"),
}
ZIP_MAGIC = b"PK\x03\x04"
# The old layout starts with a pickle of this number, then a version.
STREAM_NUMBER = 0x1950A86A20F9469CFC6C
STREAM_VERSION = 1001
# Entries whose tensors are not needed.
OPTIMIZERS = ("optimizer", "scheduler", "param_schedulers", "message_hub")


def read(path: str | os.PathLike) -> Any:
  """Returns the contents of a file written by `torch.save`.

  Args:
    path: The file.

  Returns:
    The saved containers, with NumPy arrays (shapes, dtypes and strides as
    stored, read-only) instead of the tensors of dicts at any depth, except
    those below OPTIMIZERS. Tensors that shared memory still share it.

  Raises:
    FileNotFoundError: If there is no such file.
    UserError: If the file is truncated, has another format, or contains
      anything but tensors and plain containers.
  """
  path = epath.Path(path)
  data = path.read_bytes()
  try:
    if data.startswith(ZIP_MAGIC):
      return _read_zip(data)
    return _read_stream(data)
  except _NotTorchError as error:
    raise UserError(
      f"{path}: not a file written by torch.save ({error})."
    ) from error
  except RefusedError as error:
    raise UserError(f"{path}: {error}") from error
  except Exception as error:  # damaged files fail in many ways
    raise UserError(
      f"{path}: truncated or damaged ({error}); download or save it again."
    ) from error


class _NotTorchError(Exception):
  """The file has another format."""


def _read_zip(data: bytes) -> Any:
  """Returns <root>/data.pkl with its storages <root>/data/<key>."""
  with zipfile.ZipFile(io.BytesIO(data)) as archive:
    _check_archive(archive, len(data))
    names = archive.namelist()
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
      raise _NotTorchError(f"a zip archive with {len(pickles)} data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    order = root + "byteorder"
    if order in names and archive.read(order) != b"little":
      raise RefusedError("big-endian files are not supported.")
    if archive.getinfo(pickles[0]).file_size > pickle_machine.MAX_PICKLE_BYTES:
      raise RefusedError("refused to load a data.pkl that is too large.")
    content, _ = pickle_machine.load(io.BytesIO(archive.read(pickles[0])))

    def read_storage(storage: Storage) -> bytes:
      return archive.read(f"{root}data/{storage.key}")

    return _with_arrays(content, read_storage)


def _check_archive(archive: zipfile.ZipFile, file_size: int) -> None:
  """Raises for archives that `torch.save` does not write."""
  entries = archive.infolist()
  names = [entry.filename for entry in entries]
  for name in names:
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
      raise RefusedError(
        f"refused the archive: its entry {name[:80]!r} points outside of it."
      )
  if len(set(names)) < len(names):
    raise RefusedError(
      "refused the archive: it has two entries with the same name."
    )
  # PyTorch stores without compression, so contents never exceed the file.
  if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
    raise RefusedError(
      "refused the archive: its entries are compressed, which torch.save does "
      "not do and a small file could unpack to any size; save it again."
    )
  if sum(entry.file_size for entry in entries) > file_size:
    raise RefusedError(
      "refused the archive: its entries claim more bytes than the file has."
    )


def _read_stream(data: bytes) -> Any:
  """Returns pickles (number, version, system, content, keys) with storages."""
  file = io.BytesIO(data)
  try:
    number, version, system = (pickle_machine.load(file)[0] for _ in range(3))
    if (number, version) != (STREAM_NUMBER, STREAM_VERSION):
      raise ValueError("another number")
  except (RefusedError, ValueError, LookupError, TypeError) as error:
    if data[:1] == b"\x80":
      raise _NotTorchError(
        "it is a bare pickle, as in detectron2's model zoo: give it the "
        "ending .pkl"
      ) from error
    raise _NotTorchError("it has no known header") from error
  if not system.get("little_endian", True):
    raise RefusedError("big-endian files are not supported.")
  content, storages = pickle_machine.load(file)
  keys, _ = pickle_machine.load(file)
  starts = {}  # first byte of each storage
  position = file.tell()
  for key in keys:
    (size,) = struct.unpack_from("<q", data, position)
    if size != storages[key].size:
      raise ValueError(
        f"storage {key} has {size} elements of {storages[key].size}"
      )
    starts[key] = position + 8
    position += 8 + size * _dtype(storages[key]).itemsize
  if position > len(data):
    raise EOFError(f"{position - len(data)} bytes are missing")

  def read_storage(storage: Storage) -> memoryview:
    num_bytes = storage.size * _dtype(storage).itemsize
    return memoryview(data)[starts[storage.key] :][:num_bytes]

  return _with_arrays(content, read_storage)


def _with_arrays(
  content: Any, read_storage: Callable[[Storage], bytes | memoryview]
) -> Any:
  """Returns dicts with arrays for tensors; changes them in place.

  Nothing is read for the state of an optimizer.
  """
  storages: dict[str, np.ndarray] = {}

  def to_array(value: Any, name: str) -> Any:
    if not isinstance(value, Tensor):
      return value
    storage = value.storage
    if storage.key not in storages:
      data = read_storage(storage)
      if len(data) != storage.size * _dtype(storage).itemsize:
        raise EOFError(
          f"storage {storage.key} has {len(data)} bytes, not {storage.size} "
          f"elements of {_dtype(storage)}"
        )
      storages[storage.key] = np.frombuffer(data, _dtype(storage))
    return _view(value, storages[storage.key], name)

  if not isinstance(content, dict):
    return to_array(content, "the tensor")
  seen, waiting = set(), [content]
  while waiting:
    node = waiting.pop()
    if id(node) in seen:
      continue
    seen.add(id(node))
    for key, value in node.items():
      if isinstance(value, dict) and key not in OPTIMIZERS:
        waiting.append(value)
      node[key] = to_array(value, str(key))
  return content


def _view(tensor: Tensor, storage: np.ndarray, name: str) -> np.ndarray:
  """Returns a view of a storage as a tensor; it must lie within the storage."""
  num_elements = math.prod(tensor.shape)
  last = tensor.offset + sum(
    (size - 1) * stride
    for size, stride in zip(tensor.shape, tensor.strides, strict=True)
  )
  if num_elements and (last >= storage.size or num_elements > storage.size):
    raise RefusedError(
      f"refused {name[:80]!r}: a tensor of shape {tensor.shape}, strides "
      f"{tensor.strides} and offset {tensor.offset} does not fit its storage "
      f"of {storage.size} elements."
    )
  itemsize = storage.dtype.itemsize
  return np.ndarray(
    tensor.shape,
    storage.dtype,
    buffer=storage,
    offset=tensor.offset * itemsize if num_elements else 0,
    strides=tuple(stride * itemsize for stride in tensor.strides)
    if num_elements
    else None,
  )


def _dtype(storage: Storage) -> np.dtype:
  return DTYPES[storage.kind]
