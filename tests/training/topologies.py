"""Runs of the training command on several devices and processes.

A topology is (processes, devices of each).
"""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

from solo_jax.training.logging import read_rows

ROOT = pathlib.Path(__file__).parents[2]
NUM_STEPS = 6
TIMEOUT = 600  # seconds, of any process
# Whatever a checkpoint must carry is in use: momentum, average, warm-up and
# decay, the random augmentation of the config, synchronised statistics. Plain
# SGD, as Adam divides by gradients near zero and so magnifies rounding.
RUN = (
  f"--config.training.num_steps={NUM_STEPS}",
  "--config.training.batch_size=16",
  "--config.training.checkpoint_every_steps=3",
  "--config.training.keep_latest=2",
  "--config.training.log_every_steps=1",
  "--config.training.picture_every_steps=0",
  "--config.optimizer.accumulate=2",
  "--config.optimizer.name=sgd",
  "--config.optimizer.learning_rate=0.0025",
  "--config.optimizer.warmup_steps=2",
  "--config.optimizer.ema_decay=0.9",
  "--config.backbone.norm=sync",
  "--config.transforms.image_size=(64,64)",
  "--config.transforms.augment=(('orient',{'flip':0.5,'vertical_flip':0.5,"
  "'transpose':0.5}),('resize_short_side',{'short_sides':(64,),"
  "'max_side':64}))",
  "--config.preprocessing.short_side=64",
  "--config.preprocessing.max_side=64",
  "--config.backbone.stage_sizes=(1,1,1,1)",
  "--config.backbone.widths=(8,8,8,8)",
)
SOLOV2 = (
  "--config.network.num_head_convs=1",
  "--config.network.num_grids=(8,4)",
  "--config.network.fpn_channels=8",
  "--config.network.head_channels=8",
  "--config.network.mask_channels=8",
  "--config.network.kernel_channels=8",
  "--config.network.num_groups=4",
)


def find_port():
  with socket.socket() as free:
    free.bind(("localhost", 0))
    return free.getsockname()[1]


def environment(num_devices, **more):
  flags = f"--xla_force_host_platform_device_count={num_devices}"
  flags = f"{os.environ['XLA_FLAGS']} {flags}"
  return os.environ | {"XLA_FLAGS": flags} | more


def finish(commands, environments):
  """Runs processes in parallel to their end.

  Processes may wait for each other forever: all of them are killed then.

  Args:
    commands: Words of each command.
    environments: Environment of each.

  Returns:
    Exit code and output of each.
  """
  with contextlib.ExitStack() as stack:
    started = []
    for command, env in zip(commands, environments, strict=True):
      # Files, as a pipe that no one reads yet may fill up.
      output = stack.enter_context(tempfile.TemporaryFile("w+"))
      process = subprocess.Popen(
        list(map(str, command)),
        env=env,
        cwd=ROOT,
        stdout=output,
        stderr=output,
        start_new_session=True,
      )
      stack.callback(end, process)
      started.append((process, output))
    deadline = time.monotonic() + TIMEOUT
    for process, _ in started:
      process.wait(max(deadline - time.monotonic(), 0))
    for _, output in started:
      output.seek(0)
    return [(process.returncode, output.read()) for process, output in started]


def end(process):
  """Kills a process with what it has started in its session."""
  for path in pathlib.Path("/proc").glob("[0-9]*"):
    with contextlib.suppress(ProcessLookupError):
      if os.getsid(int(path.name)) == process.pid:
        os.kill(int(path.name), signal.SIGKILL)
  process.wait()


def train(data_dir, workdir, topology, *flags, config="solov2_shapes"):
  """Runs the command to its end, several processes by the launch script."""
  num_processes, num_devices = topology
  launch = [sys.executable, "-m", "solo_jax.train"]
  if num_processes > 1:
    script = str(ROOT / "launch" / "local_multiprocess.sh")
    launch = ["bash", script, str(num_processes)]
  command = [
    *launch,
    f"--config={ROOT / 'configs' / config}.py",
    f"--workdir={workdir}",
    f"--config.dataset.data_dir={data_dir}",
    *flags,
  ]
  port = str(find_port())
  env = environment(num_devices, PYTHON=sys.executable, PORT=port)
  ((code, output),) = finish([command], [env])
  assert code == 0, output


def train_steps(data_dir, workdir, topology):
  """Trains the small run; returns the row of metrics of each step."""
  train(data_dir, workdir, topology, *RUN, *SOLOV2)
  rows = read_rows(workdir / "metrics.jsonl")
  assert [row["step"] for row in rows] == [*range(1, NUM_STEPS + 1), NUM_STEPS]
  return rows[:-1]
