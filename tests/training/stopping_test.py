"""Tests of solo_jax/training/stopping.py."""

import os
import signal
import threading

import pytest

from solo_jax.training.stopping import Stopped, StopRequest


@pytest.mark.parametrize(
  "number, code",
  [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)],
)
def test_signal_becomes_a_request(number, code):
  with StopRequest() as stop:
    assert stop.signal_number is None
    os.kill(os.getpid(), number)
    assert stop.signal_number == number
    assert stop.stopped().code == code


def test_hangup_under_nohup_is_ignored():
  previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with StopRequest() as stop:
      os.kill(os.getpid(), signal.SIGHUP)
      assert stop.signal_number is None
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
  finally:
    signal.signal(signal.SIGHUP, previous)


def test_second_signal_stops_at_once():
  with StopRequest() as stop:
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Stopped):
      os.kill(os.getpid(), signal.SIGINT)
  assert stop.signal_number == signal.SIGINT


def test_handlers_are_put_back():
  before = signal.getsignal(signal.SIGTERM)
  with StopRequest():
    assert signal.getsignal(signal.SIGTERM) != before
  assert signal.getsignal(signal.SIGTERM) == before


def test_immediate_stop_inside_its_block_only():
  with StopRequest() as stop:
    with pytest.raises(Stopped) as error, stop.immediate():
      os.kill(os.getpid(), signal.SIGTERM)
    assert error.value.code == 143


def test_request_from_before_an_immediate_block():
  with StopRequest() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Stopped), stop.immediate():
      pytest.fail("must not run")


def test_several_processes_stop_together(monkeypatch):
  """At the next step: one alone would leave the others waiting."""
  monkeypatch.setattr("jax.process_count", lambda: 2)
  with StopRequest() as stop, stop.immediate():
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.signal_number == signal.SIGTERM
  with stop.immediate():
    pass


def test_other_threads_train_without_signals():
  def use():
    with StopRequest() as stop:
      seen.append(stop.signal_number)

  seen = []
  thread = threading.Thread(target=use)
  thread.start()
  thread.join()
  assert seen == [None]
