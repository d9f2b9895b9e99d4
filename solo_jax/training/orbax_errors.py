"""Errors of Orbax and TensorStore: said once, in the words that tell most."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator

from absl import logging


@contextlib.contextmanager
def without_echoes() -> Iterator[None]:
  """Keeps threads of Orbax and TensorStore from printing their tracebacks.

  Every error of theirs is also raised where a checkpoint is waited for.
  """

  def is_news(record):
    return record.exc_info is None or "orbax" not in record.pathname

  def hook(unraisable):
    if str(unraisable.exc_value) != "Event loop is closed":
      previous_hook(unraisable)

  previous_hook, sys.unraisablehook = sys.unraisablehook, hook
  logging.get_absl_logger().addFilter(is_news)
  try:
    yield
  finally:
    sys.unraisablehook = previous_hook
    logging.get_absl_logger().removeFilter(is_news)


def reason(error: Exception) -> str:
  """Returns the words of an error that tell most; some go on for pages."""
  system = re.search(r"os_error_code='(\d+)'", str(error))  # TensorStore's
  if system:
    return os.strerror(int(system[1]))
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  text = f"{type(error).__name__}: {error}".splitlines()[0]
  return text if len(text) <= 200 else f"{text[:200]} ..."
