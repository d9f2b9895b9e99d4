"""The same run on other devices and processes: losses, checkpoints, AP.

A topology is (processes, devices of each).
"""

import ast
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import pytest

from solo_jax.checkpoints.store import load
from solo_jax.data import shapes
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
QUERIES = (
  "--config.network.channels=32",
  "--config.network.mask_channels=8",
  "--config.network.encoder_hidden=8",
  "--config.network.decoder_hidden=8",
  "--config.network.num_decoder_layers=1",
  "--config.loss.num_points=100",
)
# Learns eight scenes well enough for an AP that is not 0.
MODEL = (
  "--config.dataset.train_split=train[:8]",
  "--config.dataset.eval_split=train[:20]",
  "--config.training.batch_size=8",
  "--config.training.num_steps=120",
  "--config.training.checkpoint_every_steps=1000",
  "--config.training.picture_every_steps=0",
  "--config.optimizer.warmup_steps=10",
  "--config.transforms.augment=(('resize_short_side',{'short_sides':(128,),"
  "'max_side':128}),)",
  "--config.backbone.stage_sizes=(1,1,1,1)",
  "--config.backbone.widths=(16,24,32,32)",
  "--config.network.fpn_channels=16",
  "--config.network.head_channels=16",
  "--config.network.mask_channels=16",
  "--config.network.kernel_channels=16",
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

  Processes may wait for each other for ever: nothing is left of them then.

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


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp("data")
  shapes.Shapes(data_dir=str(path), num_train=40, num_validation=11).prepare()
  return path


@pytest.fixture(scope="module")
def runs(data_dir, tmp_path_factory):
  """A function of a topology: (workdir, rows) of a run on it."""
  done = {}

  def run(topology):
    if topology not in done:
      workdir = tmp_path_factory.mktemp("run") / "workdir"
      done[topology] = workdir, train_steps(data_dir, workdir, topology)
    return done[topology]

  return run


def assert_same_run(found, expected):
  """Compares losses and schedule row by row, and the averaged parameters."""
  (workdir, rows), (expected_workdir, expected_rows) = found, expected
  for row, expected_row in zip(rows, expected_rows, strict=True):
    names = ("loss", "category_loss", "mask_loss", "gradient_norm")
    for name in names:
      np.testing.assert_allclose(
        row[f"train/{name}"],
        expected_row[f"train/{name}"],
        rtol=1e-5,
        err_msg=f"{name} of step {row['step']}",
      )
    assert row["train/learning_rate"] == expected_row["train/learning_rate"]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    load(str(workdir)).variables,
    load(str(expected_workdir)).variables,
  )


def difference(rows, expected_rows):
  """The largest relative difference of losses, for the documentation."""
  pairs = zip(rows, expected_rows, strict=True)
  return max(abs(a["train/loss"] / b["train/loss"] - 1) for a, b in pairs)


@pytest.mark.slow
@pytest.mark.parametrize(
  "topology", [(1, 2), (1, 4), (1, 8), (2, 1), (2, 4)], ids=str
)
def test_losses_are_those_of_one_device(runs, topology):
  expected = runs((1, 1))
  found = runs(topology)
  print(topology, [row["train/loss"] for row in found[1]])
  print("largest relative difference", difference(found[1], expected[1]))
  assert_same_run(found, expected)


@pytest.mark.slow
def test_losses_of_queries_are_those_of_one_device(data_dir, tmp_path):
  """The first step tightly: rounding may choose other points in the next.

  The loss takes the least certain points of each mask and pairs of least cost.
  After an update, logits differ in their last digits, and so may these choices:
  one of 100 points weighs a hundredth of a mask's loss.
  """
  losses = []
  for topology in ((1, 1), (1, 8), (2, 4)):
    workdir = tmp_path / str(topology)
    flags = (*RUN, *QUERIES, "--config.training.num_steps=3")
    train(data_dir, workdir, topology, *flags, config="mask2former_shapes")
    rows = read_rows(workdir / "metrics.jsonl")[:3]
    assert [row["step"] for row in rows] == [1, 2, 3]
    losses.append([row["train/loss"] for row in rows])
    print(topology, losses[-1])
  for found in losses[1:]:
    np.testing.assert_allclose(found[0], losses[0][0], rtol=2e-6)
    np.testing.assert_allclose(found, losses[0], rtol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("topology", [(1, 1), (2, 4)], ids=str)
def test_checkpoint_of_eight_devices_goes_on_elsewhere(
  runs, data_dir, tmp_path, topology
):
  expected = runs((1, 8))
  workdir = tmp_path / "workdir"
  shutil.copytree(expected[0], workdir)
  shutil.rmtree(workdir / "checkpoints" / str(NUM_STEPS))
  rows = train_steps(data_dir, workdir, topology)
  assert rows[:3] == expected[1][:3]  # of the first half, kept
  print("largest relative difference", difference(rows, expected[1]))
  assert_same_run((workdir, rows), expected)


SLURM = """
import sys
from absl import flags
from solo_jax import cli
from solo_jax import parallel
cli.define_process_flags()
flags.FLAGS(sys.argv)
parallel.connect(*cli.process_address(flags.FLAGS))
import jax
print(parallel.gather_json(f"{jax.process_index()} of {jax.process_count()}"))
"""


def test_two_tasks_of_slurm_find_each_other():
  port = str(find_port())
  environments = [
    os.environ
    | dict(
      JAX_COORDINATOR_PORT=port,
      SLURM_JOB_ID="1",
      SLURM_STEP_NODELIST="localhost,localhost",
      SLURM_NTASKS="2",
      SLURM_PROCID=str(i),
      SLURM_LOCALID=str(i),
    )
    for i in range(2)
  ]
  command = [sys.executable, "-c", SLURM, "--distributed"]
  for code, output in finish([command] * 2, environments):
    assert code == 0 and "['0 of 2', '1 of 2']" in output, output


EVALUATE = """
import sys
from absl import flags
from rich.console import Console
from solo_jax import cli
from solo_jax import parallel
from solo_jax.scoring.checkpoint import Request, evaluate_checkpoint
cli.define_process_flags()
_, data_dir, checkpoint, out = flags.FLAGS(sys.argv)
if (address := cli.process_address(flags.FLAGS)) is not None:
  parallel.connect(*address)
for batch_size in (1, 7, 8):
  metrics = evaluate_checkpoint(
    Request(
      path=checkpoint,
      data_dir=data_dir,
      overrides=f"evaluation.batch_size={batch_size}",
      out=f"{out}.{batch_size}.json",
    ),
    cli.make_progress(Console(stderr=True)),
  )
  print(repr(metrics.scalars()))
"""


def run_evaluations(topology, data_dir, workdir, out):
  """Runs EVALUATE in every process; returns what each printed."""
  num_processes, num_devices = topology
  address = [
    f"--coordinator=localhost:{find_port()}",
    f"--num_processes={num_processes}",
  ]
  commands = [
    [sys.executable, "-c", EVALUATE, data_dir, workdir, out]
    + ([*address, f"--process_id={i}"] if num_processes > 1 else [])
    for i in range(num_processes)
  ]
  done = finish(commands, [environment(num_devices)] * num_processes)
  return [output for _, output in done]


@pytest.mark.slow
def test_metrics_are_the_same_on_any_topology(data_dir, tmp_path):
  """All metrics, of each process, with 1, 7 and 8 images per device.

  20 images fill no batch of 8 devices but that of 1 image, nor their last one.
  """
  workdir = tmp_path / "workdir"
  train(data_dir, workdir, (1, 1), *MODEL)
  metrics, images = [], []
  for topology in ((1, 1), (1, 8), (2, 4)):
    out = tmp_path / str(topology)
    for output in run_evaluations(topology, data_dir, workdir, out):
      lines = [x for x in output.splitlines() if x.startswith("{'mask_AP'")]
      assert len(lines) == 3, output
      metrics += map(ast.literal_eval, lines)
      print(topology, [repr(found["mask_AP"]) for found in metrics[-3:]])
    for batch_size in (1, 7, 8):
      results = json.loads(pathlib.Path(f"{out}.{batch_size}.json").read_text())
      images.append([result["image_id"] for result in results])
  expected = metrics[0]
  assert expected["mask_AP"] > 0.02
  for found in metrics:
    for name, value in expected.items():
      if value is None:
        assert found[name] is None
      else:
        assert abs(found[name] - value) <= 1e-12, name
  assert all(found == images[0] for found in images)


# What Google's storage has and the emulator has not: ranges of the last bytes,
# with which ArrayRecord starts, and generations, without which Orbax's
# TensorStore does not write a file twice.
EMULATOR = """
import re, sys
from gcp_storage_emulator import exceptions, server
from gcp_storage_emulator.handlers import objects
plain = objects.download
def download(request, response, storage, *args, **kwargs):
  place = request.params["bucket_name"], request.params["object_id"]
  try:
    generation = storage.get_file_obj(*place)["generation"]
    response["x-goog-generation"] = generation
    last = re.fullmatch(r"bytes=-(\\d+)", request.get_header("range", "") or "")
    if last:
      start = max(0, len(storage.get_file(*place)) - int(last[1]))
      request.get_header = lambda *_: f"bytes={start}-"
  except exceptions.NotFound:
    pass
  return plain(request, response, storage, *args, **kwargs)
objects.download = download
for _, methods in server.HANDLERS:
  if methods.get("GET") is plain:
    methods["GET"] = download
server.create_server(
  "localhost", int(sys.argv[1]), True, default_bucket="bucket"
).run()
"""
COPY = """
import sys
from etils import epath
def copy(source, target):
  for path in source.iterdir():
    if path.is_dir():
      copy(path, target / path.name)
    else:
      (target / path.name).parent.mkdir(parents=True, exist_ok=True)
      (target / path.name).write_bytes(path.read_bytes())
copy(*map(epath.Path, sys.argv[1:]))
"""
DELETE = """
import sys
from etils import epath
epath.Path(sys.argv[1]).rmtree()
"""


@pytest.fixture
def storage(monkeypatch):
  """Google's object storage, emulated, for gs:// of all libraries."""
  pytest.importorskip("gcsfs", reason="pip install gcsfs")
  pytest.importorskip(
    "gcp_storage_emulator", reason="pip install gcp-storage-emulator"
  )
  port = find_port()
  for name in (
    "STORAGE_EMULATOR_HOST",  # gcsfs
    "CLOUD_STORAGE_EMULATOR_ENDPOINT",  # ArrayRecord
    "TENSORSTORE_GCS_HTTP_URL",  # Orbax
  ):
    monkeypatch.setenv(name, f"http://localhost:{port}")
  server = subprocess.Popen(
    [sys.executable, "-c", EMULATOR, str(port)],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  while server.poll() is None:
    try:
      socket.create_connection(("localhost", port)).close()
      break
    except OSError:
      time.sleep(0.2)
  yield
  server.kill()
  server.wait()


def run_python(*command):
  return subprocess.run(
    [sys.executable, *map(str, command)],
    env=environment(1),
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
    timeout=TIMEOUT,
  ).stdout


@pytest.mark.slow
def test_data_and_run_on_a_bucket(runs, data_dir, tmp_path, storage):
  """Bit for bit the run on disk, also when it continues from the bucket."""
  workdir, expected = runs((1, 1))
  data, run = "gs://bucket/data", "gs://bucket/run"
  run_python("-c", COPY, data_dir, data)
  train(data, run, (1, 1), *RUN, *SOLOV2)
  run_python("-c", DELETE, f"{run}/checkpoints/{NUM_STEPS}")
  train(data, run, (1, 1), *RUN, *SOLOV2)
  run_python("-c", COPY, run, tmp_path / "run")
  rows = read_rows(tmp_path / "run" / "metrics.jsonl")
  losses = [x["train/loss"] for x in rows if "train/loss" in x]
  assert losses == [x["train/loss"] for x in expected]
  assert {x.name for x in (tmp_path / "run" / "checkpoints").iterdir()} == {
    "3",
    "6",
  }
  out = run_python(
    *("-m", "solo_jax.eval"), f"--checkpoint={run}", f"--data_dir={data}"
  )
  metrics = json.loads(out.splitlines()[-1])
  last = read_rows(workdir / "metrics.jsonl")[-1]
  assert metrics == {name: last[f"val/{name}"] for name in metrics}
