"""Tests of solo_jax/checkpoints/damage.py."""

import contextlib
import gc
import logging as std_logging
import sys
import types

import numpy as np
import pytest
from absl import logging
from etils import epath

from solo_jax.checkpoints.damage import (
  check_signed,
  reason,
  set_aside_metrics,
  sign,
  without_echoes,
)


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


def test_a_context_that_is_not_closed_stays_in_effect(monkeypatch, caplog):
  """Also for what asyncio logs of tasks that no one waits for."""
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


def test_a_checksum_holds_for_its_contents_alone():
  state = {"params": {"a": np.arange(6.0).reshape(2, 3), "b": np.int32(1)}}
  info = {"class_names": ["x"]}
  signed = sign(info, state)
  assert "checksum" not in info
  check_signed(signed.copy(), state)
  changed = {"params": {**state["params"], "a": np.arange(6.0).reshape(3, 2)}}
  for given, arrays in (
    (signed | {"class_names": ["y"]}, state),
    (signed, changed),  # the same bytes in another shape
  ):
    with pytest.raises(ValueError, match="do not match its checksum"):
      check_signed(dict(given), arrays)
  check_signed(info, changed)  # from before there were checksums


def test_damaged_metrics_are_renamed_and_whole_ones_stay(tmp_path):
  for step, text in (("3", "{"), ("5", "{}"), ("7", None)):
    folder = tmp_path / step / "metrics"
    folder.mkdir(parents=True)
    if text is not None:
      (folder / "metrics").write_text(text)
  set_aside_metrics(epath.Path(tmp_path))
  found = sorted(str(x.relative_to(tmp_path)) for x in tmp_path.glob("*/*/*"))
  assert found == ["3/metrics/damaged", "5/metrics/metrics"]
