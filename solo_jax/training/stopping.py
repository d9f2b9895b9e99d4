"""Stops a run cleanly on SIGTERM, SIGHUP or Ctrl-C."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import jax

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(SystemExit):
  """The run was stopped after saving; exits with 128 + signal number.

  That is 130 after Ctrl-C, 143 after SIGTERM and 129 after SIGHUP, as shells
  and schedulers expect of a program that did not finish.
  """


class StopRequest:
  """Turns SIGTERM, SIGHUP and Ctrl-C into a request; a second stops at once.

  SIGHUP comes when a terminal is closed; where it is ignored, as under `nohup`,
  it stays ignored.

  Use as a context manager. Outside the main thread, where Python handles no
  signals, it never requests anything.

  Attributes:
    signal_number: The received signal; None before.
  """

  def __init__(self):
    self.signal_number: int | None = None
    self._is_immediate = False
    self._previous: dict[int, object] = {}

  def __enter__(self) -> "StopRequest":
    if threading.current_thread() is threading.main_thread():
      for number in _SIGNALS:
        if signal.getsignal(number) == signal.SIG_IGN:
          continue
        self._previous[number] = signal.signal(number, self._handle)
    return self

  def __exit__(self, *unused: object) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  @contextlib.contextmanager
  def immediate(self) -> Iterator[None]:
    """Returns a context in which a signal raises Stopped at once.

    For a single process only: several must stop together, or some would wait
    for the others, and only the training step asks all of them.
    """
    self._is_immediate = jax.process_count() == 1
    try:
      if self._is_immediate and self.signal_number is not None:
        raise self.stopped()
      yield
    finally:
      self._is_immediate = False

  def stopped(self) -> Stopped:
    """Returns the exception that stops the run."""
    return Stopped(128 + (self.signal_number or signal.SIGTERM))

  def _handle(self, number: int, frame: FrameType | None) -> None:
    del frame
    is_second = self.signal_number is not None
    self.signal_number = number
    if is_second or self._is_immediate:
      raise self.stopped()
