"""Tests of solo_jax/parallel.py."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax import parallel
from solo_jax.errors import UserError


def test_mapped_step_averages_and_compiles_once():
  num_traces = []

  def step(state, batch):
    num_traces.append(1)
    total = jax.lax.pmean(batch["x"].sum(), parallel.AXIS_NAME)
    return {"w": state["w"] + total}, {"total": total}

  mapped_step = parallel.map_step(step)
  state = parallel.replicate({"w": np.zeros(3, np.float32)})
  batch = {"x": np.arange(jax.device_count() * 2, dtype=np.float32)}
  for _ in range(3):
    with jax.transfer_guard("disallow"):
      state, metrics = mapped_step(state, parallel.split_batch(batch))
  assert len(num_traces) == 1
  mean = batch["x"].sum() / jax.device_count()
  np.testing.assert_allclose(parallel.fetch(state)["w"], np.full(3, 3 * mean))
  assert parallel.fetch(metrics)["total"] == mean


def test_fetched_arrays_survive_donation():
  mapped_step = parallel.map_step(
    lambda state, batch: (state + 1.0, batch.sum())
  )
  state = parallel.replicate(np.zeros(1000, np.float32))
  batch = parallel.split_batch(np.zeros(jax.device_count(), np.float32))
  before = parallel.fetch(state)
  after, _ = mapped_step(state, batch)
  assert state.is_deleted()
  np.testing.assert_array_equal(before, 0.0)
  np.testing.assert_array_equal(parallel.fetch(after), 1.0)


def test_replicated_state_does_not_alias_its_source():
  source = np.zeros(1000, np.float32)
  state = parallel.replicate(source)
  source[:] = 7.0
  np.testing.assert_array_equal(parallel.fetch(state), 0.0)


def test_split_batch_keeps_the_order():
  num_devices = jax.device_count()
  batch = np.arange(num_devices * 6).reshape(num_devices * 2, 3)
  split = parallel.split_batch(batch)
  assert split.shape == (num_devices, 2, 3)
  np.testing.assert_array_equal(np.asarray(split).reshape(-1, 3), batch)


def test_fetch_takes_plain_arrays_too():
  tree = parallel.fetch({"a": np.int32(3), "b": jnp.ones(2)})
  assert tree["a"] == 3
  np.testing.assert_array_equal(tree["b"], [1.0, 1.0])


def test_batch_that_does_not_split_is_refused():
  parallel.check_batch_size(4 * jax.device_count(), 2)
  with pytest.raises(UserError, match="batch_size=3 does not split evenly"):
    parallel.check_batch_size(3, 2)


def test_any_process_of_one_process_is_its_own_flag():
  assert parallel.any_process(True)
  assert not parallel.any_process(False)


def test_eight_devices_train_as_one(toy, tmp_path):
  """With synchronised batch norm, accumulation, invalid images and draws."""
  arguments = ["16", "2", "5"]  # images, micro-batches, steps
  toy.main(tmp_path / "one.npz", *arguments)
  subprocess.run(
    [sys.executable, toy.__file__, tmp_path / "eight.npz", *arguments],
    env=os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
    check=True,
  )
  one = np.load(tmp_path / "one.npz")
  eight = np.load(tmp_path / "eight.npz")
  assert eight["num_devices"] == 8 * one["num_devices"]
  assert eight["spread"] == 0.0  # all devices hold the same state
  drawn = "metrics/drawn_dropped"
  np.testing.assert_array_equal(eight[drawn], one[drawn])
  for name in set(one.files) - {"num_devices"}:
    np.testing.assert_allclose(
      eight[name], one[name], rtol=1e-5, atol=2e-6, err_msg=name
    )


def test_one_process_gathers_itself():
  assert parallel.gather_json([1, "a", 0.1]) == [[1, "a", 0.1]]


@pytest.mark.parametrize(
  ("address", "message"),
  [
    (("host:1", None, 0), "go together; got host:1, None and 0"),
    (("host", 2, 0), "--coordinator=host: expected HOST:PORT of process 0"),
    (("host:1", 2, 2), "--process_id=2: expected 0 to 1, one each"),
  ],
)
def test_wrong_addresses_are_refused(address, message):
  with pytest.raises(UserError, match=message):
    parallel.connect(*address)


def test_no_cluster_is_reported():
  """In a separate process, as JAX must not be in use yet."""
  program = "from solo_jax import parallel; parallel.connect(None, None, None)"
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True
  )
  assert "UserError: --distributed: JAX finds no other pro" in done.stderr


def test_silent_coordinator_is_reported():
  with pytest.raises(UserError, match="process 1 of 2 .* at localhost:1 wi"):
    parallel.connect("localhost:1", 2, 1, timeout_seconds=0)


def test_processes_that_disagree_are_reported(monkeypatch):
  facts = {"training.num_steps": 5, "newest checkpoint": 0}
  parallel.check_agreement(facts)
  other = facts | {"newest checkpoint": 4}
  monkeypatch.setattr(parallel, "gather_json", lambda value: [value, other])
  with pytest.raises(
    UserError, match="checkpoint: 0 in process 0, 4 in process 1"
  ):
    parallel.check_agreement(facts)


def test_compile_counter_counts_traces():
  told = []
  counter = parallel.CompileCounter(
    lambda x: x + 1, lambda: told.append(counter.num_compiled)
  )
  compiled = jax.jit(counter)
  for shape in (1, 1, 2):
    compiled(np.zeros(shape))
  assert counter.num_compiled == 2
  assert told == [1, 2]
