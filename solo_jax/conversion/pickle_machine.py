"""Reads the pickles inside PyTorch files without running anything.

Python's own unpickler calls whatever a file names and trusts every size. This
machine supports only the opcodes that write tensors and plain containers, and
only the names in KNOWN; everything else is rejected. Nothing is imported or
called for a file, so it cannot run code, and memory is proportional to the size
of the pickle.
"""

import dataclasses
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

MAX_PICKLE_BYTES = 64 * 2**20  # a state dict of a thousand tensors has 0.2 MB
# A thousand tensors take 50,000 opcodes; each may take a hundred bytes.
MAX_OPCODES = 2_000_000
MAX_COPIED = 100_000
MAX_DIMENSIONS = 32

STORAGES = (
  "DoubleStorage",
  "FloatStorage",
  "HalfStorage",
  "BFloat16Storage",
  "LongStorage",
  "IntStorage",
  "ShortStorage",
  "CharStorage",
  "ByteStorage",
  "BoolStorage",
)
TENSOR = "torch._utils._rebuild_tensor"
TENSOR_V2 = "torch._utils._rebuild_tensor_v2"
PARAMETER = "torch._utils._rebuild_parameter"
DICT = "collections.OrderedDict"
SIZE = "torch.Size"
# Saved by training runs next to the weights; recognised and skipped.
READ_OVER = (
  "_codecs.encode",
  "collections.Counter",
  "collections.defaultdict",
  "mmengine.logging.history_buffer.HistoryBuffer",
  "numpy.core.multiarray._reconstruct",
  "numpy.core.multiarray.scalar",
  "numpy._core.multiarray._reconstruct",
  "numpy._core.multiarray.scalar",
  "numpy.dtype",
  "numpy.ndarray",
  "torch.device",
)
KNOWN = frozenset(
  [TENSOR, TENSOR_V2, PARAMETER, DICT, SIZE, *READ_OVER]
  + [f"torch.{name}" for name in STORAGES]
)


class RefusedError(Exception):
  """The pickle contains something that is not supported."""


@dataclasses.dataclass(frozen=True, slots=True)
class Name:
  """A Python object that the pickle names.

  Attributes:
    name: Module and name, one of KNOWN.
  """

  name: str


@dataclasses.dataclass(frozen=True, slots=True)
class ReadOver:
  """Placeholder for an object that is not a weight; see READ_OVER."""


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
  """A block of memory that tensors view; its bytes are outside the pickle.

  Attributes:
    kind: One of STORAGES.
    key: Name of the block in the file.
    size: Number of elements.
  """

  kind: str
  key: str
  size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
  """A view of a storage; counts are in elements and not checked yet.

  Attributes:
    storage: The storage.
    offset: Offset of its first element.
    shape: As in PyTorch.
    strides: As in PyTorch.
  """

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def load(
  file: BinaryIO,
  *,
  machine: "Machine | None" = None,
  max_bytes: int | None = None,
) -> tuple[Any, dict[str, Storage]]:
  """Returns the contents of one pickle.

  Args:
    file: Open at the first byte of the pickle; left after its last one.
    machine: A new machine that builds more than tensors; None: `Machine()`.
    max_bytes: Longest pickle that is read; None: MAX_PICKLE_BYTES.

  Returns:
    content: Dicts, lists, tuples, strings and numbers as pickled (sets as
      lists); `Tensor` for tensors and parameters; `ReadOver` for the objects
      of READ_OVER.
    storages: Every storage that it names, by key.

  Raises:
    RefusedError: On anything unknown, which the message names.
    ValueError, IndexError, KeyError: If the pickle is damaged.
  """
  machine = machine or Machine()
  max_bytes = max_bytes or MAX_PICKLE_BYTES
  start = file.tell()
  for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
    if number > MAX_OPCODES:
      raise RefusedError(
        f"refused to load a pickle of more than {MAX_OPCODES:,} parts."
      )
    if file.tell() - start > max_bytes:
      raise RefusedError(
        f"refused to load a pickle of more than {max_bytes >> 20} MB: "
        "a state dict needs less than 1 MB in addition to its tensors."
      )
    machine.step(opcode.name, argument)
  return machine.result, machine.storages


# Opcodes by function. PROTO and FRAME only announce; a reader that never reads
# ahead does not need their argument.
_NOTHING = ("PROTO", "FRAME")
_VALUES = (
  "INT",
  "LONG",
  "BININT",
  "BININT1",
  "BININT2",
  "LONG1",
  "LONG4",
  "FLOAT",
  "BINFLOAT",
  "STRING",
  "BINSTRING",
  "SHORT_BINSTRING",
  "UNICODE",
  "BINUNICODE",
  "SHORT_BINUNICODE",
  "BINUNICODE8",
  "BINBYTES",
  "SHORT_BINBYTES",
  "BINBYTES8",
)
_CONSTANTS = {
  "NONE": lambda: None,
  "NEWTRUE": lambda: True,
  "NEWFALSE": lambda: False,
  "EMPTY_TUPLE": tuple,
  "EMPTY_LIST": list,
  "EMPTY_DICT": dict,
  "EMPTY_SET": list,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MEMO_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_MEMO_GETS = ("GET", "BINGET", "LONG_BINGET")
_MAX_INTEGER_BITS = 128  # PyTorch's magic number has 77


class Machine:
  """The stack, the marks and the memo while a pickle is read."""

  known = KNOWN

  def __init__(self):
    self.stack: list[Any] = []
    self.marks: list[int] = []  # heights of the stack
    self.memo: dict[int, Any] = {}
    self.storages: dict[str, Storage] = {}
    self.result: Any = None
    self._num_copied = 0
    self._actions: dict[str, Callable[[], None]] = {
      "MARK": lambda: self.marks.append(len(self.stack)),
      "POP": self.stack.pop,
      "POP_MARK": self._pop_mark,
      "MEMOIZE": lambda: self._put(len(self.memo)),
      "TUPLE": lambda: self.stack.append(tuple(self._pop_mark())),
      "LIST": lambda: self.stack.append(self._pop_mark()),
      "FROZENSET": lambda: self.stack.append(self._pop_mark()),
      "DICT": self._dict,
      "APPEND": lambda: self._extend([self.stack.pop()]),
      "APPENDS": lambda: self._extend(self._pop_mark()),
      "ADDITEMS": lambda: self._extend(self._pop_mark()),
      "SETITEM": lambda: self._set_items(self._pop(2)),
      "SETITEMS": lambda: self._set_items(self._pop_mark()),
      "STACK_GLOBAL": lambda: self._name(*self._pop(2)),
      "REDUCE": self._reduce,
      "NEWOBJ": self._reduce,
      "BUILD": self._build,
      "BINPERSID": self._storage,
      "STOP": self._stop,
    }

  def step(self, opcode: str, argument: Any) -> None:
    """Executes one opcode."""
    if opcode in _VALUES:
      if isinstance(argument, int) and argument.bit_length() > (
        _MAX_INTEGER_BITS
      ):
        raise RefusedError("refused to load an integer that is too large.")
      self.stack.append(argument)
    elif opcode in _MEMO_PUTS:
      self._put(argument)
    elif opcode in _MEMO_GETS:
      self.stack.append(self._get(argument))
    elif opcode in _CONSTANTS:
      self.stack.append(_CONSTANTS[opcode]())
    elif opcode in _TUPLES:
      self.stack.append(tuple(self._pop(_TUPLES[opcode])))
    elif opcode == "GLOBAL":
      self._name(*argument.split(" ", 1))
    elif opcode in self._actions:
      self._actions[opcode]()
    elif opcode not in _NOTHING:
      raise RefusedError(
        f"refused to load a pickle with the opcode {opcode}, which no state "
        "dict needs. Save the state dict alone with PyTorch and convert that."
      )

  def _pop(self, count: int) -> list[Any]:
    floor = self.marks[-1] if self.marks else 0
    if len(self.stack) - count < floor:
      raise IndexError("the pickle takes more values than it gave")
    values = self.stack[-count:]
    del self.stack[-count:]
    return values

  def _pop_mark(self) -> list[Any]:
    height = self.marks.pop()
    values = self.stack[height:]
    del self.stack[height:]
    return values

  def _put(self, index: int) -> None:
    self.memo[index] = self.stack[-1]

  def _get(self, index: int) -> Any:
    return self.memo[index]

  def _dict(self) -> None:
    items = self._pop_mark()
    self.stack.append({})
    self._set_items(items)

  def _extend(self, values: list[Any]) -> None:
    target = self.stack[-1]
    if isinstance(target, list):
      target.extend(values)
    elif not isinstance(target, ReadOver):
      raise ValueError("the pickle appends to something that is not a list")

  def _set_items(self, items: list[Any]) -> None:
    target = self.stack[-1]
    if isinstance(target, ReadOver):
      return
    if not isinstance(target, dict) or len(items) % 2:
      raise ValueError("the pickle sets items of something that is not a dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
      # Nested tuples could take forever to hash.
      if not isinstance(key, str | int | float | bool | None):
        raise RefusedError(
          f"refused to load a dict with a key of type {type(key).__name__}; "
          "only strings and numbers are read."
        )
      target[key] = value

  def _name(self, module: Any, name: Any) -> None:
    full_name = f"{_clip(module)}.{_clip(name)}"
    if full_name not in self.known:
      raise RefusedError(
        f"refused to load the Python object {full_name}: only tensors and "
        "plain containers are read, as anything else could run code. Save "
        "the state dict alone with PyTorch and convert that."
      )
    self.stack.append(Name(full_name))

  def _reduce(self) -> None:
    function, arguments = self._pop(2)
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
      raise ValueError("the pickle calls something that is not a function")
    if function.name == DICT:
      self._ordered_dict(*arguments)
    else:
      self.stack.append(self._call(function.name, arguments))

  def _call(self, name: str, arguments: tuple) -> Any:
    """Returns the result of calling a known name, for the values above."""
    if name in (TENSOR, TENSOR_V2):
      storage, offset, shape, strides, *_ = arguments
      if isinstance(shape, tuple) and len(shape) > MAX_DIMENSIONS:
        raise RefusedError(f"refused a tensor of {len(shape)} dimensions.")
      if not (
        isinstance(storage, Storage)
        and are_counts([offset])
        and isinstance(shape, tuple)
        and isinstance(strides, tuple)
        and len(shape) == len(strides)
        and are_counts(shape + strides)
      ):
        raise ValueError("a tensor without storage, offset, shape and strides")
      return Tensor(storage, offset, shape, strides)
    if name == PARAMETER:
      return arguments[0]
    if name == SIZE:
      (shape,) = arguments
      if not isinstance(shape, tuple | list) or len(shape) > MAX_DIMENSIONS:
        raise ValueError("a torch.Size of something other than a shape")
      return tuple(shape)
    if name in READ_OVER:
      return ReadOver()
    raise ValueError(f"the pickle calls {name}")

  def _ordered_dict(self, pairs: Any = ()) -> None:
    """Makes a dict: empty, or of pairs as Python 2 wrote it."""
    # Each copy of a list takes only a few bytes of a file.
    self._num_copied += len(pairs)
    if self._num_copied > MAX_COPIED:
      raise RefusedError(f"refused a dict of more than {MAX_COPIED} entries.")
    self.stack.append({})
    self._set_items([x for key, value in pairs for x in (key, value)])

  def _build(self) -> None:
    """Drops the attributes of an object: `_metadata` of a state dict."""
    target, _ = self._pop(2)
    if not isinstance(target, dict | ReadOver):
      raise RefusedError(
        f"refused to set attributes of a {type(target).__name__}."
      )
    self.stack.append(target)

  def _storage(self) -> None:
    (reference,) = self._pop(1)
    if not (
      isinstance(reference, tuple)
      and len(reference) in (5, 6)
      and reference[0] == "storage"
      and isinstance(reference[1], Name)
      and reference[1].name.removeprefix("torch.") in STORAGES
    ):
      raise ValueError("the pickle refers to something that is not a storage")
    _, kind, key, _, size, *view = reference
    if view not in ([], [None]):
      raise RefusedError(
        "storages that are views of others (PyTorch before 0.4) are not "
        "supported; save the file again with a newer PyTorch."
      )
    if not isinstance(key, str) or not key.isalnum():
      raise RefusedError(
        f"refused a storage called {_clip(key)!r}: PyTorch numbers them, and "
        "other names could point outside of the file."
      )
    if type(size) is not int or size < 0:
      raise ValueError(f"storage {_clip(key)} has no size")
    storage = Storage(kind.name.removeprefix("torch."), key, size)
    if self.storages.setdefault(key, storage) != storage:
      raise ValueError(f"storage {key} has two types or sizes")
    self.stack.append(storage)

  def _stop(self) -> None:
    (self.result,) = self._pop(1)


def are_counts(values: Any) -> bool:
  """Returns whether all values are whole numbers from 0."""
  return all(type(x) is int and x >= 0 for x in values)


def _clip(value: Any) -> str:
  """Returns a file's value as text short enough for a message."""
  return value[:80] if isinstance(value, str) else f"<{type(value).__name__}>"
