"""Tests of solo_jax/heap.py: page faults as the system counts them."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import os, resource, threading
from solo_jax.heap import keep_freed_memory

def count_faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  bytes(bytearray(b"x") * (48 << 20))
  faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

faults = []
cores = os.sched_getaffinity(0)
assert len(cores) == 1 or not keep_freed_memory()
os.sched_setaffinity(0, [min(cores)])
assert keep_freed_memory()
for _ in range(3):
  thread = threading.Thread(target=count_faults)  # as XLA does
  thread.start()
  thread.join()
print(*faults)
"""


@pytest.mark.skipif(
  platform.libc_ver()[0] != "glibc", reason="only glibc is changed"
)
def test_freed_memory_is_used_again():
  result = subprocess.run(
    [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
  )
  first, *later = map(int, result.stdout.split())
  assert first > 0
  assert max(later) < first / 10, result.stdout
