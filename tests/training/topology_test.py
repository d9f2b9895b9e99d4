"""The same run on other devices and processes: losses, checkpoints, AP.

A topology is (processes, devices of each).
"""

import ast
import json
import os
import pathlib
import shutil
import sys

import jax
import numpy as np
import pytest

from solo_jax.checkpoints.store import load
from solo_jax.training.logging import read_rows
from tests.training.topologies import (
  NUM_STEPS,
  RUN,
  environment,
  find_port,
  finish,
  train,
  train_steps,
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
QUERIES = (
  "--config.training.num_steps=3",
  "--config.network.channels=32",
  "--config.network.mask_channels=8",
  "--config.network.encoder_hidden=8",
  "--config.network.decoder_hidden=8",
  "--config.network.num_decoder_layers=1",
  "--config.loss.num_points=100",
)


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
@pytest.mark.parametrize("topology", [(1, 2), (1, 8), (2, 1), (2, 4)], ids=str)
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
    flags = (*RUN, *QUERIES)
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
def test_checkpoint_of_eight_devices_resumes_on_others(
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
