"""Checkpoints that are damaged, and disks that are full."""

import os
import re
import shutil

import jax
import numpy as np
import pytest
import toy_runs

from solo_jax.checkpoints.store import load

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stopped(data_dir, tmp_path_factory):
  """Folder of a run that was killed after step 12 was saved."""
  workdir = tmp_path_factory.mktemp("runs") / "stopped"
  with toy_runs.started(data_dir, workdir) as run:
    run.wait_for("step 12 is saved")
  return workdir


def damage(folder):
  for path in (folder / "state").rglob("*"):
    if path.is_file():
      path.write_bytes(path.read_bytes()[:20])


def test_damaged_newest_checkpoint_is_named_and_the_older_one_used(
  data_dir, undisturbed, stopped, tmp_path
):
  workdir = tmp_path / "run"
  shutil.copytree(stopped, workdir)
  older, newest = toy_runs.steps_saved(workdir)
  damage(workdir / "checkpoints" / str(newest))
  run = toy_runs.finish(data_dir, workdir)
  folder = workdir / "checkpoints" / str(newest)
  assert f"checkpoint {folder} cannot be read" in run.output
  assert (
    f"the damaged checkpoint of step {newest} was renamed to damaged_{newest}"
  ) in run.output
  assert toy_runs.resumed_from(run.output) == older
  assert newest in toy_runs.steps_reported(run.output)
  toy_runs.assert_same_end(workdir, undisturbed)


def test_run_does_not_start_anew_where_all_checkpoints_are_damaged(
  data_dir, stopped, tmp_path
):
  workdir = tmp_path / "run"
  shutil.copytree(stopped, workdir)
  before = toy_runs.steps_saved(workdir)
  for step in before:
    damage(workdir / "checkpoints" / str(step))
  output = toy_runs.fail(data_dir, workdir)
  assert f"none of the checkpoints in {workdir / 'checkpoints'}" in output
  assert toy_runs.steps_saved(workdir) == before


def test_resuming_goes_by_steps_and_not_by_the_age_of_files(
  data_dir, undisturbed, stopped, tmp_path
):
  workdir = tmp_path / "run"
  shutil.copytree(stopped, workdir)
  newest = toy_runs.steps_saved(workdir)[-1]
  for path in workdir.rglob("*"):
    seconds = 1e9 if f"/checkpoints/{newest}" in str(path) else 2e9
    os.utime(path, (seconds, seconds))  # 2001 and 2033
  run = toy_runs.finish(data_dir, workdir)
  assert toy_runs.resumed_from(run.output) == newest
  toy_runs.assert_same_end(workdir, undisturbed)


def test_full_disk_during_a_checkpoint(data_dir, undisturbed, tmp_path, mount):
  """Room for two or three checkpoints on a separate file system."""
  workdir = tmp_path / "run"
  enlarge = mount(workdir / "checkpoints", "size=200k")
  keep = "--config.training.keep_latest=10"
  output = toy_runs.fail(data_dir, workdir, keep)
  (failed, last) = re.search(
    r"toy_train: the checkpoint of step (\d+) cannot be written to \S+ "
    r"\(.*No space left on device.*\); step (\d+) is the last one saved",
    output,
  ).groups()
  saved = toy_runs.steps_saved(workdir)
  assert saved == toy_runs.steps_reported(output)
  assert saved[-1] == int(last) == int(failed) - 4
  for step in saved:  # each is whole
    checkpoint = load(str(workdir / "checkpoints" / str(step)))
    assert checkpoint.step == step
    assert all(
      np.isfinite(x).all() for x in jax.tree.leaves(checkpoint.variables)
    )
  enlarge("size=10m")
  run = toy_runs.finish(data_dir, workdir, keep)
  assert toy_runs.resumed_from(run.output) == int(last)
  toy_runs.assert_same_end(workdir, undisturbed)


def test_full_disk_under_the_log(data_dir, undisturbed, tmp_path, mount):
  """As above, with everything on one file system that is filled up."""
  disk = tmp_path / "disk"
  enlarge = mount(disk, "size=1m")
  workdir, log = disk / "run", tmp_path / "log"
  with toy_runs.started(data_dir, workdir, log=log) as run:
    run.wait_for("step 8 is saved")
    run.stop()
    toy_runs.fill(disk)
    run.go_on()
    assert run.wait() == 1, run.output
  assert "Traceback" not in run.output, run.output
  assert "No space left on device" in run.output
  assert "rerun the same command" in run.output
  saved = toy_runs.steps_reported(run.output)
  assert toy_runs.steps_saved(workdir)[-1] == saved[-1]
  enlarge("size=10m")
  run = toy_runs.finish(data_dir, workdir, log=log)
  assert toy_runs.resumed_from(run.output) == saved[-1]
  toy_runs.assert_same_end(workdir, undisturbed)
