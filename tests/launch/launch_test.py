"""Tests of launch/: what the scripts would run; the local one with a fake."""

import pathlib
import shlex
import subprocess
import time

import pytest

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
FLAGS = ("--config=configs/solov2_coco.py:backbone=r50,schedule=3x",)


def run(script, *arguments, **environment):
  return subprocess.run(
    ["bash", str(LAUNCH / script), *arguments],
    capture_output=True,
    text=True,
    env={"PATH": "/usr/bin:/bin"} | environment,
    timeout=60,
  )


def test_local_processes_differ_in_their_number_only():
  done = run("local_multiprocess.sh", "--dry-run", "3", *FLAGS, "--workdir=w")
  commands = [shlex.split(line) for line in done.stdout.splitlines()]
  assert len(commands) == 3 and done.returncode == 0
  for i, command in enumerate(commands):
    assert command[:3] == ["python", "-m", "solo_jax.train"]
    assert command[-1] == f"--process_id={i}"
    assert command[:-1] == commands[0][:-1]
  assert FLAGS[0] in commands[0] and "--num_processes=3" in commands[0]


def fake_python(path, body):
  path.write_text(f"#!/bin/bash\n{body}\n")
  path.chmod(0o755)
  return str(path)


def test_local_processes_run_and_log(tmp_path):
  python = fake_python(tmp_path / "python", 'echo "got $*"')
  workdir = tmp_path / "runs" / "two"
  done = run(
    "local_multiprocess.sh", "2", f"--workdir={workdir}", PYTHON=python
  )
  assert done.returncode == 0, done.stderr
  for i in range(2):
    log = pathlib.Path(f"{workdir}.process{i}.log").read_text()
    assert log.startswith("got -m solo_jax.train")
    assert log.strip().endswith(f"--process_id={i}")


def test_a_process_that_fails_ends_the_others(tmp_path):
  body = '[[ "$*" == *process_id=1 ]] && exit 7; exec sleep 50'
  python = fake_python(tmp_path / "python", body)
  start = time.monotonic()
  done = run(
    "local_multiprocess.sh", "2", f"--workdir={tmp_path / 'w'}", PYTHON=python
  )
  assert done.returncode == 7
  assert "a process failed (exit code 7)" in done.stderr
  assert time.monotonic() - start < 40


def test_slurm_starts_one_process_a_task():
  done = run("slurm.sbatch", "--dry-run", *FLAGS)
  assert shlex.split(done.stdout) == [
    *("srun", "--kill-on-bad-exit=1", "python", "-m", "solo_jax.train"),
    *("--distributed", *FLAGS),
  ]


def test_tpu_pod_quotes_what_the_shell_there_would_split():
  done = run("tpu_pod.sh", "--dry-run", "pod", "zone", "--workdir=gs://b/a b")
  _, _, remote = done.stdout.strip().partition("--command=")
  assert "tpu-vm ssh pod --zone=zone --worker=all" in done.stdout
  assert shlex.split(remote)[-2:] == ["--distributed", "--workdir=gs://b/a b"]


@pytest.mark.parametrize("script", ["local_multiprocess.sh", "tpu_pod.sh"])
def test_missing_arguments_are_told(script):
  done = run(script)
  assert done.returncode == 2
  assert done.stderr.startswith("usage:")
