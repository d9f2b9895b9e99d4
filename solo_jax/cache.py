"""The folder where downloads, converted checkpoints and programs are kept.

Everything in it may be deleted at any time and consists of plain folders and
files, without links. A folder with its final name is always complete: it is
made under a temporary name and then renamed.
"""

import contextlib
import os
import pathlib
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator

from solo_jax.errors import UserError

VARIABLE = "SOLO_JAX_CACHE"
OFFLINE = ("SOLO_JAX_OFFLINE", "HF_HUB_OFFLINE")
_DAY = (
  24 * 3600.0
)  # after which incomplete folders of other machines are removed


def cache_folder() -> pathlib.Path:
  """Returns the folder; it need not exist.

  It is the environment variable SOLO_JAX_CACHE, otherwise `solo_jax` in the
  user's cache directory (XDG_CACHE_HOME, by default ~/.cache).
  """
  given = os.environ.get(VARIABLE)
  if given:
    return pathlib.Path(given).expanduser().absolute()
  root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  return pathlib.Path(root) / "solo_jax"


def offline_variable() -> str | None:
  """Returns the environment variable that forbids the network, if one does."""
  for name in OFFLINE:
    value = os.environ.get(name, "").lower()
    if value not in ("", "0", "false", "no", "off"):
      return name
  return None


def fill_once(
  folder: pathlib.Path, make: Callable[[pathlib.Path], None]
) -> pathlib.Path:
  """Returns a folder of the cache, made atomically if it does not exist.

  Processes that need the same folder wait for the first. On file systems
  without locks they work in parallel, and the result of the first to finish is
  used.

  Args:
    folder: The folder, below `cache_folder()`.
    make: Fills an empty folder; that one is renamed afterwards.

  Returns:
    `folder`.

  Raises:
    UserError: If the cache cannot be written.
  """
  if folder.exists():
    return folder
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
      _remove_left(folder)
      if not folder.exists():
        _make(folder, make)
  except OSError as error:
    raise UserError(
      f"the cache cannot be written: {folder}: {error.strerror or error}; "
      f"no incomplete file was left. Set {VARIABLE} to a writable folder with "
      "free space"
    ) from error
  return folder


def count_bytes(folder: pathlib.Path) -> int:
  """Returns the bytes of all files below a folder."""
  return sum(x.stat().st_size for x in folder.rglob("*") if x.is_file())


def remove(folder: pathlib.Path) -> int:
  """Returns the bytes that were freed by removing a folder of the cache.

  It is renamed first, so a folder with this name is always complete.

  Args:
    folder: The folder.

  Raises:
    UserError: If it cannot be removed.
  """
  num_bytes = count_bytes(folder)
  try:
    shutil.rmtree(folder.rename(_part_of(folder)))
  except OSError as error:
    raise UserError(
      f"{folder} cannot be removed: {error.strerror or error}"
    ) from error
  return num_bytes


def _part_of(folder: pathlib.Path) -> pathlib.Path:
  """Returns the name of an incomplete folder of this process."""
  name = f".{folder.name}@{socket.gethostname()}@{os.getpid()}"
  return folder.with_name(name)


def _make(folder: pathlib.Path, make: Callable[[pathlib.Path], None]) -> None:
  """Fills a folder under another name, then renames it."""
  part = _part_of(folder)
  part.mkdir()
  try:
    make(part)
    try:
      part.rename(folder)
    except OSError:
      if not folder.exists():  # another process was the first
        raise
  finally:
    shutil.rmtree(part, ignore_errors=True)


def _remove_left(folder: pathlib.Path) -> None:
  """Removes incomplete folders of killed processes."""
  for part in folder.parent.glob(f".{folder.name}@*@*"):
    _, host, pid = part.name.rsplit("@", 2)
    if host == socket.gethostname():
      is_left = not _is_alive(int(pid))
    else:
      is_left = time.time() - part.stat().st_mtime > _DAY
    if is_left:
      shutil.rmtree(part, ignore_errors=True)


def _is_alive(pid: int) -> bool:
  if sys.platform == "win32":  # there os.kill ends the process
    return True
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    pass
  return True


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
  """Returns a context that other processes wait for; the system ends it."""
  try:
    import fcntl
  except ImportError:  # Windows
    yield
    return
  with open(folder.with_name(f".{folder.name}.lock"), "wb") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      print(f"waiting for another process to create {folder}", file=sys.stderr)
      fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
      pass  # a file system without locks
    yield
