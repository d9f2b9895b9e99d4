"""PyTorch files built by hand, for tests that have no PyTorch."""

import collections
import io
import pickle
import struct
import sys
import types
import zipfile

import numpy as np

KINDS = {
  "<f8": "DoubleStorage",
  "<f4": "FloatStorage",
  "<f2": "HalfStorage",
  "<i8": "LongStorage",
}


class _Storage:
  """Pickled as a reference to bytes next to the pickle."""

  def __init__(self, kind, key, size):
    self.reference = ("storage", kind, key, "cpu", size)


class _Tensor:
  """Pickled as torch pickles a contiguous tensor."""

  def __init__(self, storage, shape):
    self.storage, self.shape = storage, shape

  def __reduce__(self):
    strides = [
      int(np.prod(self.shape[i + 1 :])) for i in range(len(self.shape))
    ]
    arguments = (self.storage, 0, self.shape, tuple(strides), False)
    hooks = collections.OrderedDict()
    return sys.modules["torch._utils"]._rebuild_tensor_v2, (*arguments, hooks)


class _Pickler(pickle.Pickler):
  def persistent_id(self, value):
    return value.reference if isinstance(value, _Storage) else None


class TorchWriter:
  """Writes files as torch.save does, both layouts, arrays as tensors."""

  def __init__(self, monkeypatch):
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in KINDS.values():
      storage = type(kind, (), {"__module__": "torch"})
      setattr(torch, kind, storage)

    def _rebuild_tensor_v2():
      """Only its name is pickled."""

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    self._torch = torch

  def zip(self, path, content):
    """Writes the layout of PyTorch 1.6 and later."""
    pickled, storages = self._pickle(content)
    with zipfile.ZipFile(path, "w") as archive:
      archive.writestr("archive/data.pkl", pickled)
      archive.writestr("archive/byteorder", "little")
      for key, array in storages.items():
        archive.writestr(f"archive/data/{key}", array.tobytes())
    return path

  def stream(self, path, content):
    """Writes the older layout."""
    pickled, storages = self._pickle(content)
    with open(path, "wb") as file:
      header = 0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}
      for part in header:
        pickle.dump(part, file, protocol=2)
      file.write(pickled)
      pickle.dump(list(storages), file, protocol=2)
      for array in storages.values():
        file.write(struct.pack("<q", array.size) + array.tobytes())
    return path

  def _pickle(self, content):
    storages = {}

    def wrap(value):
      if isinstance(value, np.ndarray):
        key = str(len(storages))
        storages[key] = np.ascontiguousarray(value)
        kind = getattr(self._torch, KINDS[value.dtype.str])
        return _Tensor(_Storage(kind, key, value.size), value.shape)
      if isinstance(value, dict):
        return type(value)((k, wrap(v)) for k, v in value.items())
      return value

    file = io.BytesIO()
    _Pickler(file, protocol=2).dump(wrap(content))
    return file.getvalue(), storages
