"""The folder of a run: that it can be written, by one run at a time."""

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
  releases it when that process ends, however it ends, so that a run that was
  killed never has to be cleared away. File systems of several hosts (NFS, and
  Lustre where mounted with `flock`) pass it on. Where there is no such lock, as
  on a bucket, a warning says so and the run goes on.

  Args:
    workdir: Folder of the run; made if missing.

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
  """Where the files of a log are written, to end up in the workdir.

  Files of a bucket cannot be appended to. So for a workdir there they grow in a
  local folder and are copied when they have changed. A copy that fails is told,
  tried again the next time and does not end the run.

  Attributes:
    path: Folder on a local disk: the workdir itself, made if missing, or a
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
    self._uploaded = {}  # file -> size and time of what the bucket has
    self._last_upload = time.monotonic()

  def upload(self, *, every_seconds: float = 0.0) -> None:
    """Copies to the bucket what has changed; for a local workdir nothing.

    Args:
      every_seconds: Does nothing if the last time is not so long ago.
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
      except Exception as error:  # every kind of bucket has its own
        logging.warning(
          "%s cannot be written (%s): tried again later", target, error
        )
      else:
        self._uploaded[file] = version
    self._last_upload = time.monotonic()

  def close(self) -> None:
    """Copies what is left; removes a temporary folder."""
    self.upload()
    if self._temporary is not None:
      self._temporary.cleanup()


class _InUse(Exception):
  """Another run holds the lock; the message says which."""


def _lock(workdir: str, stack: contextlib.ExitStack) -> None:
  """Locks the folder until the stack closes."""
  if "://" in workdir:
    _warn(workdir, "a bucket has no locks")
    return
  os.makedirs(workdir, exist_ok=True)
  # Not truncated on opening: it may be the file of a run that goes on. Without
  # a buffer, so that a full disk is told here and not on closing.
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
  """Opens a file that is no other one's name: it is going to be emptied."""
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
      "ends, stop it or choose another --workdir"
    )
  if error.errno == errno.ELOOP:
    return (
      f"{os.path.join(workdir, LOCK)} is a link or no plain file, and is not "
      "touched; remove it or choose another --workdir"
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
