"""Odd clocks, time zones and locales: none of them may reach the numbers."""

import subprocess

import pytest
import toy_runs

pytestmark = pytest.mark.slow


def interrupted(data_dir, workdir, **surroundings):
  """Kills a run half-way and finishes it."""
  with toy_runs.started(data_dir, workdir, **surroundings) as run:
    run.wait_for("step 8 is saved")
  run = toy_runs.finish(data_dir, workdir, **surroundings)
  assert toy_runs.resumed_from(run.output) >= 8
  return run


def test_a_clock_that_jumps_does_not_change_the_run(
  data_dir, undisturbed, tmp_path
):
  workdir = tmp_path / "run"
  run = interrupted(
    data_dir, workdir, program=(str(toy_runs.HERE / "jumping_clock.py"),)
  )
  assert run.output.count("the clock jumped") >= 3
  toy_runs.assert_same_end(workdir, undisturbed)


def test_plain_c_locale_and_the_farthest_time_zone(
  data_dir, undisturbed, tmp_path
):
  workdir = tmp_path / "Läufe 実行" / "eins"
  interrupted(
    data_dir,
    workdir,
    log=tmp_path / "log",
    LC_ALL="C",
    LANG="C",
    TZ="Pacific/Kiritimati",
  )
  toy_runs.assert_same_end(workdir, undisturbed)


def test_locale_with_decimal_commas_and_without_unicode(
  data_dir, undisturbed, tmp_path
):
  made = subprocess.run(
    ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(tmp_path / "de_DE")],
    capture_output=True,
    text=True,
  )
  if made.returncode:
    pytest.skip(f"localedef cannot make a German locale here: {made.stderr}")
  workdir = tmp_path / "run"
  run = interrupted(
    data_dir,
    workdir,
    program=(str(toy_runs.HERE / "decimal_comma.py"),),
    LOCPATH=str(tmp_path),
    LC_ALL="de_DE",
  )
  assert "one half is 0,5 here" in run.output
  toy_runs.assert_same_end(workdir, undisturbed)
