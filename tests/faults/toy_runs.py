"""Starts runs of toy_train.py and looks at what they leave behind."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np

from solo_jax.checkpoints.store import load
from solo_jax.training.logging import read_rows

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
TIMEOUT = 600  # seconds, of anything: nothing may hang


class Run:
  """A run of the command in a separate process, with its output."""

  def __init__(self, process, log, start):
    self.process = process
    self._log, self._start = log, start

  @property
  def output(self):
    """What this process has printed so far; its log may have earlier ones."""
    return self._log.read_text(errors="replace")[self._start :]

  def wait(self):
    """Waits for the end; returns the exit code."""
    return self.process.wait(TIMEOUT)

  def wait_until(self, happened):
    """Waits until `happened()`; fails if the run exits first."""
    wait_until(lambda: happened() or self.process.poll() is not None)
    assert happened(), self.output

  def wait_for(self, pattern):
    """Waits for a line of output."""
    self.wait_until(lambda: re.search(pattern, self.output))

  def stop(self):
    """Suspends the process."""
    self.process.send_signal(signal.SIGSTOP)

  def go_on(self):
    self.process.send_signal(signal.SIGCONT)

  def kill(self):
    self.process.kill()
    return self.wait()


def wait_until(happened):
  deadline = time.monotonic() + TIMEOUT
  while not happened():
    assert time.monotonic() < deadline
    time.sleep(0.002)


def start(
  data_dir,
  workdir,
  *overrides,
  program=(str(HERE / "toy_train.py"),),
  config="solov2_shapes",
  log=None,
  **environment,
):
  """Starts the command; 24 steps with a checkpoint every 4 unless told."""
  log = pathlib.Path(log or f"{workdir}.log")
  with open(log, "ab") as file:
    begin = len(log.read_text(errors="replace"))
    process = subprocess.Popen(
      [
        *(sys.executable, *program),
        f"--config={ROOT / 'configs' / config}.py",
        f"--workdir={workdir}",
        f"--config.dataset.data_dir={data_dir}",
        "--config.training.num_steps=24",
        "--config.training.checkpoint_every_steps=4",
        "--config.training.log_every_steps=1",
        "--config.training.picture_every_steps=0",
        *overrides,
      ],
      env={
        **os.environ,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TOY_EVALUATION_SECONDS": "0",
        **environment,
      },
      stdout=file,
      stderr=file,
    )
  return Run(process, log, begin)


@contextlib.contextmanager
def started(*args, **kwargs):
  """Starts a run, and ends it with the block however that ends."""
  run = start(*args, **kwargs)
  try:
    yield run
  finally:
    run.kill()


def finish(*args, **kwargs):
  """Runs the command to its end; it must succeed."""
  run = start(*args, **kwargs)
  assert run.wait() == 0, run.output
  return run


def fail(*args, **kwargs):
  """Runs a command that must fail, with a message; returns its output."""
  run = start(*args, **kwargs)
  assert run.wait() == 1, run.output
  assert "Traceback" not in run.output, run.output
  return run.output


def fill(disk):
  """Fills a file system."""
  with contextlib.suppress(OSError):
    with open(disk / "filler", "wb", buffering=0) as filler:
      while True:
        filler.write(bytes(4096))


def list_workers(run):
  """Process ids of a run's data workers, which any of its threads started."""
  tasks = pathlib.Path(f"/proc/{run.process.pid}/task").iterdir()
  children = " ".join((x / "children").read_text() for x in tasks).split()
  return [
    int(child)
    for child in children
    if "spawn_main" in pathlib.Path(f"/proc/{child}/cmdline").read_text()
  ]


def steps_saved(workdir):
  """Steps of the checkpoints that are there, sorted."""
  folder = pathlib.Path(workdir) / "checkpoints"
  return sorted(int(x.name) for x in folder.iterdir() if x.name.isdigit())


def has_unfinished(workdir):
  """Returns whether a checkpoint is being written, or was when a run exited."""
  folder = pathlib.Path(workdir) / "checkpoints"
  return folder.exists() and any("tmp" in x.name for x in folder.iterdir())


def steps_reported(output):
  """Steps that a run reported as saved."""
  return [int(x) for x in re.findall(r"step (\d+) is saved", output)]


def resumed_from(output):
  """Step that a run resumed from; 0 if it started anew."""
  match = re.search(r"resuming from step (\d+)", output)
  return int(match[1]) if match else 0


def last_step(workdir):
  """Step of the last line of the log."""
  rows = read_rows(pathlib.Path(workdir) / "metrics.jsonl")
  return rows[-1]["step"] if rows else 0


def assert_same_end(workdir, undisturbed):
  """Parameters, statistics and losses of all steps are equal, bit for bit."""
  expected, found = load(str(undisturbed)), load(str(workdir))
  assert found.step == expected.step
  jax.tree.map(
    np.testing.assert_array_equal, found.variables, expected.variables
  )
  losses = [
    [
      (row["step"], row.get("train/loss"))
      for row in read_rows(pathlib.Path(x) / "metrics.jsonl")
    ]
    for x in (workdir, undisturbed)
  ]
  assert losses[0] == losses[1]
