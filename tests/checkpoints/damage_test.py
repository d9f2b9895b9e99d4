"""Tests of solo_jax/checkpoints/damage.py."""

import contextlib
import gc
import logging as std_logging
import sys
import types

from absl import logging

from solo_jax.checkpoints.damage import reason, without_echoes


def test_tracebacks_of_threads_are_not_printed_twice(monkeypatch, caplog):
  """Others pass, and all do afterwards."""
  passed = []
  monkeypatch.setattr("sys.unraisablehook", passed.append)
  # A writer whose save failed, of an earlier test, keeps its filter.
  monkeypatch.setattr(logging.get_absl_logger(), "filters", [])

  def log_and_raise():
    for where in ("/packages/orbax/future.py", "/solo_jax/loop.py"):
      log = f"try: 1 / 0\nexcept Exception: logging.exception({where!r})\n"
      exec(compile(log, where, "exec"), {"logging": logging})
    for text in ("Event loop is closed", "another"):
      event = types.SimpleNamespace(exc_value=RuntimeError(text))
      sys.unraisablehook(event)

  with without_echoes():
    log_and_raise()
  assert [str(x.exc_value) for x in passed] == ["another"]
  assert caplog.messages[-1] == "/solo_jax/loop.py"
  assert "/packages/orbax/future.py" not in caplog.messages
  log_and_raise()
  assert len(passed) == 3
  assert "/packages/orbax/future.py" in caplog.messages


def test_context_that_is_dropped_lasts(monkeypatch, caplog):
  """Also for what asyncio logs of tasks that nobody waits for."""
  asyncio = std_logging.getLogger("asyncio")
  for logger in (logging.get_absl_logger(), asyncio):
    monkeypatch.setattr(logger, "filters", [])
  monkeypatch.setattr("sys.unraisablehook", sys.unraisablehook)
  context = contextlib.ExitStack()
  context.enter_context(without_echoes())
  del context
  gc.collect()
  error = (ValueError, ValueError("disk full"), None)
  for where in ("/packages/orbax/a.py", "/elsewhere/b.py"):
    text = f"Task exception was never retrieved, defined at {where}"
    asyncio.error(text, exc_info=error)
  assert [x.split("at ")[1] for x in caplog.messages] == ["/elsewhere/b.py"]


def test_reason_of_a_long_error():
  error = ValueError(
    'RESOURCE_EXHAUSTED: Failed writing: "/long/path": Failed to write 317418 '
    "bytes to file 4: No space left on device [os_error_code='28'] [source "
    "locations='tensorstore/internal/os/file_util_posix.cc:201']"
  )
  assert reason(error) == "No space left on device"
  assert reason(KeyError("a\nb")) == "KeyError: 'a\\nb'"
  assert reason(ValueError("long " * 99)).endswith(" lon ...")
