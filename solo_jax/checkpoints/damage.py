"""Errors of Orbax and TensorStore: said once, in the words that tell most."""

import contextlib
import logging as std_logging
import os
import re
import sys
from collections.abc import Iterator

from absl import logging


@contextlib.contextmanager
def without_echoes() -> Iterator[None]:
  """Keeps threads of Orbax and TensorStore from printing their tracebacks.

  Every error of theirs is also raised where a checkpoint is waited for. A
  context that is dropped without an end lasts as long as the process.
  """

  def is_news(record):
    # asyncio logs what tasks raised that nobody waited for any longer, and
    # says in the message where they come from.
    source = record.pathname + record.getMessage()
    return record.exc_info is None or "/orbax/" not in source

  def hook(unraisable):
    if str(unraisable.exc_value) != "Event loop is closed":
      previous_hook(unraisable)

  previous_hook, sys.unraisablehook = sys.unraisablehook, hook
  loggers = logging.get_absl_logger(), std_logging.getLogger("asyncio")
  for logger in loggers:
    logger.addFilter(is_news)
  is_dropped = False
  try:
    yield
  except GeneratorExit:  # collected as garbage, while threads may go on
    is_dropped = True
    raise
  finally:
    if not is_dropped:
      sys.unraisablehook = previous_hook
      for logger in loggers:
        logger.removeFilter(is_news)


def reason(error: Exception) -> str:
  """Returns the words of an error that tell most; some go on for pages."""
  system = re.search(r"os_error_code='(\d+)'", str(error))  # TensorStore's
  if system:
    return os.strerror(int(system[1]))
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  text = f"{type(error).__name__}: {error}".splitlines()[0]
  return text if len(text) <= 200 else f"{text[:200]} ..."
