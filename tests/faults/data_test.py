"""Records that are damaged, and data workers that are killed."""

import json
import os
import re
import shutil
import signal

import numpy as np
import pytest
import toy_runs
from array_record.python import array_record_module

from solo_jax.training.logging import read_rows

pytestmark = pytest.mark.slow


@pytest.fixture
def shard(data_dir, tmp_path):
  """The shard for training of a copy of the data, to damage it."""
  shutil.copytree(data_dir, tmp_path / "data")
  (path,) = (tmp_path / "data").rglob("*train.array_record*")
  return path


def test_shard_that_was_cut_short_is_refused_by_name(shard, tmp_path):
  os.truncate(shard, shard.stat().st_size // 2)
  output = toy_runs.fail(tmp_path / "data", tmp_path / "run")
  assert "toy_train: 1 of 1 files of split 'train' are missing" in output
  assert f"\n  {shard}: " in output and "prepare the dataset again" in output


def break_image(shard):
  """Overwrites the end of one image; the record around it stays whole.

  In a dataset from before its files were marked: a file written anew has
  another mark and is refused as a whole.
  """
  reader = array_record_module.ArrayRecordReader(str(shard))
  records = reader.read_all()
  reader.close()
  content = bytearray(records[7])
  start = content.index(b"IDAT") + 100
  content[start : start + 1000] = bytes(1000)
  records[7] = bytes(content)
  writer = array_record_module.ArrayRecordWriter(str(shard), "group_size:1")
  for record in records:
    writer.write(record)
  writer.close()
  path = shard.with_name("metadata.json")
  metadata = json.loads(path.read_text())
  del metadata["shards"]
  path.write_text(json.dumps(metadata))


def flip_bits(shard):
  """Damages the storage of one record."""
  content = bytearray(shard.read_bytes())
  content[len(content) // 2] ^= 255
  shard.write_bytes(content)


@pytest.mark.parametrize("break_record", [break_image, flip_bits])
def test_record_that_cannot_be_read_is_left_out_and_counted(
  shard, tmp_path, break_record
):
  break_record(shard)
  workdir = tmp_path / "run"
  workers = "--config.dataset.num_workers=2"
  run = toy_runs.finish(tmp_path / "data", workdir, workers)
  lines = re.findall(r"train: image \d+ \(.*\) cannot be decoded", run.output)
  assert len(lines) == 1  # named once, though its turn comes again
  rows = [x for x in read_rows(workdir / "metrics.jsonl") if "train/loss" in x]
  # 96 images in 24 steps: 40 of the first epoch, 40 of the second, 16.
  assert rows[-1]["train/corrupt_images_dropped_total"] in (2, 3)
  assert all(np.isfinite(row["train/loss"]) for row in rows)
  assert rows[-1]["train/nonfinite_total"] == 0


def test_killed_worker_is_replaced(data_dir, undisturbed, tmp_path):
  workdir = tmp_path / "run"
  workers = "--config.dataset.num_workers=2"
  with toy_runs.started(data_dir, workdir, workers) as run:
    run.wait_for(r"step +2/")
    run.stop()
    os.kill(toy_runs.list_workers(run)[0], signal.SIGKILL)
    run.go_on()
    assert run.wait() == 0, run.output
  assert "a data worker was killed (out of memory?)" in run.output
  toy_runs.assert_same_end(workdir, undisturbed)
