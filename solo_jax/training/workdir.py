"""The folder of a run: writable, and used by one run at a time."""

import contextlib
import errno
import fcntl
import os
import pathlib
import socket
import stat
import tempfile
import time
from collections.abc import Iterator

import jax
from absl import logging
from etils import epath

from solo_jax import parallel
from solo_jax.checkpoints.folders import check_writable
from solo_jax.errors import UserError

LOCK = "run.lock"


@contextlib.contextmanager
def claim(workdir: str) -> Iterator[None]:
  """Returns a context that holds a folder for one run; all processes call it.

  The lock is an flock on `workdir/run.lock`, taken by process 0. The kernel
  releases it when that process exits for any reason, so nothing needs to be
  cleaned up after a killed run. Shared file systems (NFS, and Lustre if mounted
  with `flock`) support it. Without locks, as on a bucket, a warning is logged
  and the run continues.

  Args:
    workdir: Folder of the run; created if missing.

  Yields:
    Nothing; the folder is held within the block.

  Raises:
    UserError: In every process, if another run holds the folder or it
      cannot be written, also because of its name.
  """
  with contextlib.ExitStack() as stack:
    problem = None
    if jax.process_index() == 0:
      try:
        check_writable(workdir)
        _lock(workdir, stack)
      except (OSError, _InUse, UserError) as error:
        problem = _explain(workdir, error)
    problem = parallel.gather_json(problem)[0]
    if problem is not None:
      raise UserError(problem)
    yield


class LogFolder:
  """The folder where log files are written before they reach the workdir.

  Files on a bucket cannot be appended to. For such a workdir they are written
  in a local folder and copied when they have changed. A failed copy is logged,
  retried the next time and does not stop the run.

  Attributes:
    path: Folder on a local disk: the workdir itself, created if missing, or a
      temporary one.
  """

  def __init__(self, workdir: str):
    """Opens the folder.

    Args:
      workdir: Folder of the run, local or such as gs://bucket/run.
    """
    self._bucket = self._temporary = None
    self.path = pathlib.Path(workdir)
    if "://" in workdir:
      self._bucket = epath.Path(workdir)
      self._temporary = tempfile.TemporaryDirectory(prefix="solo_jax_log_")
      self.path = pathlib.Path(self._temporary.name)
    self.path.mkdir(parents=True, exist_ok=True)
    self._uploaded = {}  # file -> size and time of the copy on the bucket
    self._last_upload = time.monotonic()

  def upload(self, *, every_seconds: float = 0.0) -> None:
    """Copies changed files to the bucket; does nothing for a local workdir.

    Args:
      every_seconds: Does nothing if the last copy is more recent.
    """
    waited = time.monotonic() - self._last_upload
    if self._bucket is None or waited < every_seconds:
      return
    for file in sorted(x for x in self.path.rglob("*") if x.is_file()):
      status = file.stat()
      version = status.st_size, status.st_mtime_ns
      if self._uploaded.get(file) == version:
        continue
      target = self._bucket / file.relative_to(self.path)
      try:
        target.write_bytes(file.read_bytes())
      except Exception as error:  # every kind of bucket has its own errors
        logging.warning(
          "%s cannot be written (%s): will be retried later", target, error
        )
      else:
        self._uploaded[file] = version
    self._last_upload = time.monotonic()

  def close(self) -> None:
    """Copies the remaining files; removes a temporary folder."""
    self.upload()
    if self._temporary is not None:
      self._temporary.cleanup()


class _InUse(Exception):
  """Another run holds the lock; the message names it."""


def _lock(workdir: str, stack: contextlib.ExitStack) -> None:
  """Locks the folder until the stack closes."""
  if "://" in workdir:
    _warn(workdir, "a bucket has no locks")
    return
  os.makedirs(workdir, exist_ok=True)
  # Not truncated on opening: another run may be using it. Unbuffered, so that a
  # full disk is reported here and not on closing.
  file = stack.enter_context(
    open(os.path.join(workdir, LOCK), "ab+", buffering=0, opener=_open_own)
  )
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    file.seek(0)
    holder = file.read().decode(errors="replace").strip()
    raise _InUse(holder or "another process") from None
  except OSError as error:
    _warn(workdir, error.strerror)
    return
  file.truncate(0)
  text = (
    f"process {os.getpid()} on {socket.gethostname()}, started "
    f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}\n"
  )
  file.write(text.encode())


def _open_own(path: str, flags: int) -> int:
  """Returns an opened file that is not a link to another, to be emptied."""
  flags |= os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would wait for its reader
  file = os.open(path, flags, mode=0o666)
  status = os.fstat(file)
  if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
    os.close(file)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
  return file


def _explain(workdir: str, error: Exception) -> str:
  if isinstance(error, UserError):
    return str(error)
  if isinstance(error, _InUse):
    return (
      f"--workdir={workdir} is in use by another run ({error}); wait until it "
      "exits, stop it or choose another --workdir"
    )
  if error.errno == errno.ELOOP:
    return (
      f"{os.path.join(workdir, LOCK)} is a link or not a plain file, and is "
      "not touched; remove it or choose another --workdir"
    )
  return (
    f"--workdir={workdir} cannot be written ({error.strerror}); choose "
    "another one"
  )


def _warn(workdir: str, reason: str) -> None:
  logging.warning(
    "%s cannot be locked (%s): nothing stops a second run from writing there",
    workdir,
    reason,
  )
