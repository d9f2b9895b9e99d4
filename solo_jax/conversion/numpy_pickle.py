"""Reads pickles of NumPy arrays, the format of detectron2's model zoo.

One pickle contains the names and all arrays. It is read piece by piece, so that
memory is allocated once for the arrays and never for the file. As in
`pickle_machine`, nothing is executed: only plain NumPy arrays of numbers are
rebuilt, and their bytes must be in the file.
"""

import math
import os
from typing import Any, BinaryIO

import numpy as np
from etils import epath

from solo_jax.conversion import pickle_machine
from solo_jax.conversion.pickle_machine import Name, ReadOver, RefusedError
from solo_jax.errors import UserError

MAX_FILE_BYTES = 8 * 2**30  # the largest published one has 0.9 GB
# Longer values are contents of arrays and are used directly: keeping them for
# later references would keep all arrays twice.
MAX_REFERRED = 2**16
RECONSTRUCT = (
  "numpy.core.multiarray._reconstruct",
  "numpy._core.multiarray._reconstruct",
)
EMPTY_BYTES = "__builtin__.bytes"  # called without arguments by protocol 2
DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1")


class _Bounded:
  """A file that allocates no memory for bytes that it does not contain."""

  def __init__(self, file: BinaryIO):
    self._file = file
    self._size = file.seek(0, os.SEEK_END)
    file.seek(0)
    self.readline, self.tell = file.readline, file.tell

  def read(self, size: int) -> bytes:
    return self._file.read(min(size, self._size - self._file.tell()))


class _Spent:
  """Placeholder in the memo for content that was too long to keep."""


class _Array:
  """An array under construction; `value` is None until its state comes."""

  def __init__(self):
    self.value: np.ndarray | None = None


class _Type:
  """A dtype under construction."""

  def __init__(self, name: str):
    self.dtype = np.dtype(name).newbyteorder("<")


class _Machine(pickle_machine.Machine):
  """Rebuilds arrays, which the machine for PyTorch skips."""

  known = pickle_machine.KNOWN | {EMPTY_BYTES}

  def _put(self, index: int) -> None:
    value = self.stack[-1]
    parts = value if isinstance(value, tuple) else (value,)
    if any(
      isinstance(part, str | bytes) and len(part) > MAX_REFERRED
      for part in parts
    ):
      value = _Spent
    self.memo[index] = value

  def _get(self, index: int) -> Any:
    value = self.memo[index]
    if value is _Spent:
      raise RefusedError(
        f"refused to use content of more than {MAX_REFERRED} bytes twice."
      )
    return value

  def _call(self, name: str, arguments: tuple) -> Any:
    if name in RECONSTRUCT:
      kind, *_ = arguments
      if kind == Name("numpy.ndarray"):
        return _Array()
    if name == "numpy.dtype":
      kind, *_ = arguments
      if kind in DTYPES:
        return _Type(kind)
      raise RefusedError(
        f"refused an array of type {str(kind)[:20]!r}; only numbers are read."
      )
    if name == EMPTY_BYTES:
      if arguments:
        raise RefusedError("refused to convert an object to bytes.")
      return b""
    if name == "_codecs.encode":
      text, encoding = arguments
      if encoding != "latin1" or not isinstance(text, str):
        raise RefusedError("refused text in an encoding other than latin1.")
      return text.encode("latin1")
    return super()._call(name, arguments)

  def _build(self) -> None:
    target, state = self._pop(2)
    if isinstance(target, _Array):
      target.value = _make_array(state)
    elif isinstance(target, _Type):
      _, order, *_ = state
      if order not in ("<", "|", "="):
        raise RefusedError("big-endian arrays are not supported.")
    elif not isinstance(target, dict | ReadOver):
      raise RefusedError(
        f"refused to set attributes of a {type(target).__name__}."
      )
    self.stack.append(target)


def _make_array(state: Any) -> np.ndarray:
  """Returns an array, given (version, shape, dtype, is_fortran, content)."""
  _, shape, kind, is_fortran, content = state
  if isinstance(content, str):  # written by Python 2
    content = content.encode("latin1")
  if not (
    isinstance(kind, _Type)
    and isinstance(shape, tuple)
    and len(shape) <= pickle_machine.MAX_DIMENSIONS
    and pickle_machine.are_counts(shape)
    and isinstance(content, bytes)
  ):
    raise ValueError("an array without shape, type and content")
  if math.prod(shape) * kind.dtype.itemsize != len(content):
    raise RefusedError(
      f"refused an array of shape {shape} and type {kind.dtype} with "
      f"{len(content)} bytes."
    )
  flat = np.frombuffer(content, kind.dtype)
  return flat.reshape(shape, order="F" if is_fortran else "C")


def load(file: BinaryIO) -> Any:
  """Returns the contents of one pickle with its arrays.

  Args:
    file: Open at the first byte of the pickle.

  Returns:
    Dicts, lists, tuples, strings and numbers as pickled, with read-only arrays
    in dicts at any depth.

  Raises:
    RefusedError: On anything unknown, which the message names.
    ValueError, IndexError, KeyError: If the pickle is damaged.
  """
  content, _ = pickle_machine.load(
    file, machine=_Machine(), max_bytes=MAX_FILE_BYTES
  )
  if not isinstance(content, dict):
    return content
  seen, waiting = set(), [content]
  while waiting:
    node = waiting.pop()
    if id(node) in seen:
      continue
    seen.add(id(node))
    for key, value in node.items():
      if isinstance(value, dict):
        waiting.append(value)
      elif isinstance(value, _Array):
        if value.value is None:
          raise ValueError(f"the array {str(key)[:80]!r} has no content")
        node[key] = value.value
  return content


def read(path: str | os.PathLike) -> Any:
  """Returns the contents of a `.pkl` file.

  Args:
    path: The file.

  Returns:
    See `load`.

  Raises:
    FileNotFoundError: If there is no such file.
    UserError: If the file is truncated, or contains anything but arrays and
      plain containers.
  """
  path = epath.Path(path)
  with path.open("rb") as file:
    try:
      return load(_Bounded(file))
    except RefusedError as error:
      raise UserError(f"{path}: {error}") from error
    except Exception as error:  # damaged files fail in many ways
      raise UserError(
        f"{path}: truncated or damaged ({error}); download or save it again."
      ) from error
