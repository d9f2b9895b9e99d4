"""Measures the host's time in each stage of an evaluation."""

import contextlib
import threading
import time
from collections.abc import Iterator


class StageClock:
  """Adds up wall-clock seconds by stage; threads may share it.

  Stages of different threads overlap, and devices work in parallel: the seconds
  of a stage are the time that the host spent in it.

  Attributes:
    seconds: Seconds of each stage so far, in the order of their first use.
  """

  def __init__(self):
    self.seconds: dict[str, float] = {}
    self._lock = threading.Lock()

  @contextlib.contextmanager
  def __call__(self, stage: str) -> Iterator[None]:
    """Returns a context that counts the time until the block ends.

    Args:
      stage: Name of the stage.
    """
    start = time.perf_counter()
    try:
      yield
    finally:
      seconds = time.perf_counter() - start
      with self._lock:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
