"""Two runs on one workdir, and workdirs that cannot be written."""

import os

import pytest
import toy_runs

pytestmark = pytest.mark.slow

ENDLESS = ("--config.training.num_steps=1000000",)


def test_second_run_is_refused_and_a_killed_one_leaves_no_lock(
  data_dir, undisturbed, tmp_path
):
  workdir = tmp_path / "run"
  workers = "--config.dataset.num_workers=1"
  with toy_runs.started(data_dir, workdir, workers) as first:
    first.wait_for(r"step +\d+/")
    first.stop()
    before = sorted(x.name for x in workdir.rglob("*"))
    output = toy_runs.fail(data_dir, workdir)
    assert (
      f"toy_train: --workdir={workdir} is in use by another run (process "
      f"{first.process.pid} on {os.uname().nodename}, started 2"
    ) in output
    assert before == sorted(x.name for x in workdir.rglob("*"))
  # Killed now. Its worker may be left for a moment, but has no lock.
  toy_runs.finish(data_dir, workdir)
  toy_runs.assert_same_end(workdir, undisturbed)


def test_workers_of_a_killed_run_end(data_dir, tmp_path):
  """They would keep memory and cores forever."""
  workers = "--config.dataset.num_workers=1"
  with toy_runs.started(data_dir, tmp_path / "run", *ENDLESS, workers) as run:
    run.wait_for(r"step +\d+/")
    workers = toy_runs.list_workers(run)
    assert len(workers) == 1
  toy_runs.wait_until(lambda: not any(map(is_running, workers)))


def is_running(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  return True


def test_workdir_on_a_read_only_file_system(data_dir, tmp_path, mount):
  mount(tmp_path / "read_only", "size=1m,ro")
  workdir = tmp_path / "read_only" / "run"
  output = toy_runs.fail(data_dir, workdir, log=tmp_path / "log")
  (line,) = [x for x in output.splitlines() if x.startswith("toy_train: ")]
  assert f"--workdir={workdir} cannot be written" in line
  assert "Read-only file system" in line and "choose another one" in line


def test_disk_that_is_full_at_the_start(data_dir, tmp_path, mount):
  disk = tmp_path / "disk"
  mount(disk, "size=1m")
  toy_runs.fill(disk)
  workdir = disk / "run"
  output = toy_runs.fail(data_dir, workdir, log=tmp_path / "log")
  (line,) = [x for x in output.splitlines() if x.startswith("toy_train: ")]
  assert f"--workdir={workdir} cannot be written (No space left" in line


def test_workdir_below_a_file(data_dir, tmp_path):
  (tmp_path / "file").touch()
  workdir = tmp_path / "file" / "run"
  output = toy_runs.fail(data_dir, workdir, log=tmp_path / "log")
  assert f"--workdir={workdir} cannot be written" in output
  assert "Not a directory" in output
