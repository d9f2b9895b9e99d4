"""Reads PyTorch checkpoints (`.pth`, `.pt`) without PyTorch.

Both layouts of `torch.save` are understood: the zip archive of PyTorch 1.6 and
later, and the older stream of pickles followed by raw storages. Unpickling
admits tensors and plain containers only, so a file cannot run code.
"""

import collections
import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

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
# The old layout opens with this number pickled on its own, then a version.
STREAM_NUMBER = 0x1950A86A20F9469CFC6C
STREAM_VERSION = 1001
WRAPPERS = ("state_dict", "model")


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
  """Reads the weights of a checkpoint, whatever it is wrapped in.

  Args:
    path: File written by `torch.save`: a state dict, or a dict holding one
      under 'state_dict' (mmdet, SOLO) or 'model' (detectron2, AdelaiDet).

  Returns:
    Arrays by name, in file order, shapes and dtypes as stored (convolutions
    OIHW). Entries of the state dict that are no arrays are left out.

  Raises:
    FileNotFoundError: If there is no such file.
    ValueError: If the file is truncated, of another format, needs code to be
      loaded, or holds no arrays.
  """
  content = read(path)
  if isinstance(content, dict):
    for wrapper in WRAPPERS:
      if isinstance(content.get(wrapper), dict):
        content = content[wrapper]
        break
    arrays = {k: v for k, v in content.items() if isinstance(v, np.ndarray)}
    if arrays:
      return arrays
    found = f"a dict with keys {list(content)[:10]}"
  else:
    found = f"a {type(content).__name__}"
  raise ValueError(
    f"{path}: expected a state dict of arrays, at the top or under one of "
    f"{WRAPPERS}; found {found}."
  )


def read(path: str | Path) -> Any:
  """Reads everything in a file written by `torch.save`.

  Args:
    path: The file.

  Returns:
    The saved containers, with NumPy arrays in place of tensors. Tensors that
    shared memory share it still.

  Raises:
    FileNotFoundError: If there is no such file.
    ValueError: If the file is truncated, of another format, or needs code.
  """
  path = Path(path)
  with path.open("rb") as file:
    is_zip = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    file.seek(0)
    try:
      return _read_zip(file) if is_zip else _read_stream(file)
    except _NotTorchError as error:
      raise ValueError(
        f"{path}: not a file written by torch.save ({error})."
      ) from error
    except _RefusedError as error:
      raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # damaged pickles fail in many ways
      raise ValueError(
        f"{path}: truncated or damaged ({error}); fetch or save it again."
      ) from error


class _NotTorchError(Exception):
  """The file has another format."""


class _RefusedError(Exception):
  """The file asks for something outside the allow-list."""


def _rebuild_tensor(
  storage: np.ndarray, offset: int, shape: tuple, strides: tuple, *unused: Any
) -> np.ndarray:
  """Views a storage as `torch._utils._rebuild_tensor[_v2]` does."""
  itemsize = storage.dtype.itemsize
  try:  # NumPy checks offset, shape and strides against the buffer.
    return np.ndarray(
      tuple(shape),
      storage.dtype,
      buffer=storage,
      offset=offset * itemsize,
      strides=tuple(stride * itemsize for stride in strides),
    )
  except (TypeError, ValueError) as error:
    raise pickle.UnpicklingError(
      f"tensor of shape {tuple(shape)} exceeds its storage of "
      f"{storage.size} elements"
    ) from error


def _rebuild_parameter(data: np.ndarray, *unused: Any) -> np.ndarray:
  return data


ALLOWED = {
  ("collections", "OrderedDict"): collections.OrderedDict,
  ("torch", "Size"): tuple,
  ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
  ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
  ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
  **{("torch", name): dtype for name, dtype in DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
  """Unpickler that knows tensors and containers and nothing else."""

  def __init__(
    self, file: BinaryIO, load_storage: Callable[..., np.ndarray] | None = None
  ):
    super().__init__(file, encoding="utf-8")
    self._load_storage = load_storage

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in ALLOWED:
      raise _RefusedError(
        f"refused to load the Python object {module}.{name}: only tensors and "
        "plain containers are read, as anything else could run code. Save "
        "the state dict alone with PyTorch and convert that."
      )
    return ALLOWED[module, name]

  def persistent_load(self, pid: Any) -> np.ndarray:
    if (
      self._load_storage is None
      or not isinstance(pid, tuple)
      or len(pid) < 5
      or pid[0] != "storage"
      or not isinstance(pid[1], np.dtype)
    ):
      raise pickle.UnpicklingError(f"unknown reference {pid!r}")
    _, dtype, key, _, size, *view = pid
    if view not in ([], [None]):
      raise _RefusedError(
        "storages that are views of others (PyTorch before 0.4) are not "
        "supported; save the file again with a newer PyTorch."
      )
    return self._load_storage(dtype, str(key), size)


def _read_zip(file: BinaryIO) -> Any:
  """Reads <root>/data.pkl with its storages <root>/data/<key>."""
  with zipfile.ZipFile(file) as archive:
    names = [n for n in archive.namelist() if n.endswith("/data.pkl")]
    if len(names) != 1:
      raise _NotTorchError(f"a zip archive with {len(names)} data.pkl")
    root = names[0].removesuffix("data.pkl")
    order = root + "byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
      raise _RefusedError("big-endian files are not supported.")
    storages = {}

    def load_storage(dtype: np.dtype, key: str, size: int) -> np.ndarray:
      if key not in storages:
        data = bytearray(archive.read(f"{root}data/{key}"))
        storages[key] = _to_storage(data, dtype, size, key)
      return storages[key]

    with archive.open(names[0]) as pickled:
      return _Unpickler(pickled, load_storage).load()


def _read_stream(file: BinaryIO) -> Any:
  """Reads pickles (number, version, system, content, keys), then storages."""
  try:
    header = [_Unpickler(file).load() for _ in range(3)]
  except (_RefusedError, pickle.UnpicklingError, EOFError) as error:
    raise _NotTorchError("it opens with no known header") from error
  if header[:2] != [STREAM_NUMBER, STREAM_VERSION]:
    raise _NotTorchError("it opens with no known header")
  if not header[2].get("little_endian", True):
    raise _RefusedError("big-endian files are not supported.")
  start = file.tell()
  file_size = file.seek(0, io.SEEK_END)
  file.seek(start)
  storages = {}

  def make_storage(dtype: np.dtype, key: str, size: int) -> np.ndarray:
    # Contents follow the pickles, so tensors first view empty storages.
    if key not in storages:
      if not 0 <= size * dtype.itemsize <= file_size:
        raise EOFError(f"storage {key} of {size} elements exceeds the file")
      storages[key] = np.zeros(size, dtype)
    return storages[key]

  content = _Unpickler(file, make_storage).load()
  for key in _Unpickler(file).load():
    storage = storages[key]
    (size,) = struct.unpack("<q", file.read(8))
    data = file.read(size * storage.itemsize)
    storage[:] = _to_storage(data, storage.dtype, storage.size, key)
  return content


def _to_storage(
  data: bytes | bytearray, dtype: np.dtype, size: int, key: str
) -> np.ndarray:
  if len(data) != size * dtype.itemsize:
    raise EOFError(
      f"storage {key} has {len(data)} bytes of {size * dtype.itemsize}"
    )
  return np.frombuffer(data, dtype)
