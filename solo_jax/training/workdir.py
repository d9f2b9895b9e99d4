"""The folder of a run: that it can be written, by one run at a time."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator

import jax
from absl import logging

from solo_jax.training import devices

LOCK = "run.lock"


@contextlib.contextmanager
def claim(workdir: str) -> Iterator[None]:
  """Holds a folder for one run; every process of the run must call it.

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
    RuntimeError: In every process, if another run holds the folder or it
      cannot be written.
  """
  with contextlib.ExitStack() as stack:
    problem = None
    if jax.process_index() == 0:
      try:
        _lock(workdir, stack)
      except (OSError, _InUse) as error:
        problem = _explain(workdir, error)
    problem = devices.gather_json(problem)[0]
    if problem is not None:
      raise RuntimeError(problem)
    yield


class _InUse(Exception):
  """Another run holds the lock; the message says which."""


def _lock(workdir: str, stack: contextlib.ExitStack) -> None:
  """Locks the folder until the stack closes."""
  if "://" in workdir:
    _warn(workdir, "a bucket has no locks")
    return
  os.makedirs(workdir, exist_ok=True)
  # Not truncated on opening: it may be the file of a run that goes on.
  file = stack.enter_context(open(os.path.join(workdir, LOCK), "a+"))
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    file.seek(0)
    raise _InUse(file.read().strip() or "another process") from None
  except OSError as error:
    _warn(workdir, error.strerror)
    return
  file.truncate(0)
  file.write(
    f"process {os.getpid()} on {socket.gethostname()}, started "
    f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}\n"
  )
  file.flush()


def _explain(workdir: str, error: Exception) -> str:
  if isinstance(error, _InUse):
    return (
      f"--workdir={workdir} is in use by another run ({error}); wait until it "
      "ends, stop it or choose another --workdir"
    )
  return (
    f"--workdir={workdir} cannot be written ({error.filename}: "
    f"{error.strerror}); choose another one"
  )


def _warn(workdir: str, reason: str) -> None:
  logging.warning(
    "%s cannot be locked (%s): nothing stops a second run from writing there",
    workdir,
    reason,
  )
