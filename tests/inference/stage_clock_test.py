"""Tests of solo_jax/inference/stage_clock.py."""

import concurrent.futures

import pytest

from solo_jax.inference import stage_clock


@pytest.fixture
def now(monkeypatch):
  """The time: a list of one number, which the test advances."""
  now = [100.0]
  monkeypatch.setattr(stage_clock.time, "perf_counter", lambda: now[0])
  return now


def test_adds_up_by_stage_in_order_of_first_use(now):
  clock = stage_clock.StageClock()
  for stage, seconds in (("read", 2.0), ("network", 3.0), ("read", 0.5)):
    with clock(stage):
      now[0] += seconds
    now[0] += 10  # outside of any stage
  assert list(clock.seconds.items()) == [("read", 2.5), ("network", 3.0)]


def test_an_error_closes_its_stage(now):
  clock = stage_clock.StageClock()
  with pytest.raises(KeyError), clock("read"):
    now[0] += 2
    raise KeyError
  assert clock.seconds == {"read": 2.0}


def test_threads_lose_nothing(monkeypatch):
  clock = stage_clock.StageClock()
  monkeypatch.setattr(
    stage_clock.time, "perf_counter", iter(range(10**9)).__next__
  )

  def work(_):
    for _ in range(200):
      with clock("read"):
        pass

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(work, range(8)))
  assert clock.seconds["read"] >= 1600  # a tick at least each
