"""The memory that a command has freed stays with its process.

XLA allocates the temporaries of each execution as one block, 1.5 GiB for a
training step of SOLOv2-R50 at 512 x 512. By default glibc gives such a block
back to the system, which fills it with zeros when it is next touched: a quarter
of the step's CPU time.
"""

import ctypes
import os
import sys

# Parameters of mallopt, from malloc.h, and their values.
_SETTINGS = (
  (-8, 1),  # M_ARENA_MAX: XLA's threads share the heap, which has no limit
  (-4, 0),  # M_MMAP_MAX: large blocks come from the heap as well
  (-1, -1),  # M_TRIM_THRESHOLD: its end is not given back
)


def keep_freed_memory() -> bool:
  """Returns whether freed memory is reused from now on.

  Only glibc is changed, and only threads that have allocated nothing yet: call
  it before JAX is used. The process never shrinks again. With more than one
  core nothing is changed: threads that share a heap wait for each other, and
  the demo trained half as fast on two.
  """
  if not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) > 1:
    return False
  libc = ctypes.CDLL(None)
  if not hasattr(libc, "mallopt"):  # musl
    return False
  return all([libc.mallopt(*setting) for setting in _SETTINGS])
