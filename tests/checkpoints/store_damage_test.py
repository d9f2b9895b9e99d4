"""Tests of solo_jax/checkpoints/store.py with damaged checkpoints."""

import shutil

import jax
import numpy as np
import pytest

from solo_jax import parallel
from solo_jax.checkpoints.store import load
from solo_jax.errors import UserError
from tests.checkpoints.runs import at_step, open_writer, save


def test_damaged_checkpoint(saved, tmp_path):
  folder = tmp_path / "8"
  shutil.copytree(saved / "checkpoints" / "8", folder)
  for path in (folder / "state").rglob("*"):
    if path.is_file():
      path.write_bytes(b"")
  with pytest.raises(UserError, match=r"8 cannot be read .*remove the folder"):
    load(str(folder))


def damage(folder, name, how):
  """Damages the largest file of a part of a checkpoint."""
  files = [x for x in (folder / name).rglob("*") if x.is_file()]
  path = max(files, key=lambda x: x.stat().st_size)
  content = bytearray(path.read_bytes())
  if how == "flipped":
    content[len(content) // 2] ^= 1
  path.write_bytes(
    content if how == "flipped" else content[: len(content) // 2]
  )


@pytest.fixture(scope="module")
def large(state):
  """The state with an array that Orbax stores without a checksum."""
  host = parallel.fetch(state)
  noise = np.random.default_rng(0).normal(size=(64, 1024)).astype(np.float32)
  return host.replace(params={**host.params, "noise": noise})


@pytest.mark.parametrize(
  ("name", "how"),
  [
    ("state", "flipped"),
    ("state", "cut"),
    ("info", "flipped"),
    ("info", "cut"),
    ("state/_METADATA", "removed"),
  ],
)
def test_damaged_newest_gives_way_to_the_one_before(
  toy, large, tmp_path, caplog, name, how
):
  writer = open_writer(toy, tmp_path)
  for step in (4, 8):
    writer.save(large.replace(step=np.int32(step)))
  writer.close()
  newest = tmp_path / "checkpoints" / "8"
  if how == "removed":
    (newest / name).unlink()
  else:
    damage(newest, name, how)
  with pytest.raises(UserError, match="8 cannot be read"):
    load(str(tmp_path))
  writer = open_writer(toy, tmp_path)
  found = writer.restore(large)
  expected = large.replace(step=np.int32(4))
  jax.tree.map(np.testing.assert_array_equal, found, expected)
  assert any(
    f"checkpoint {newest} cannot be read" in x for x in caplog.messages
  )
  assert "checkpoint of step 8 was renamed to damaged_8" in caplog.messages[-1]
  # The run gets to step 8 again, and it must be saved this time.
  assert writer.latest_step() == 4
  writer.save(large.replace(step=np.int32(8)))
  writer.close()
  assert load(str(tmp_path)).step == 8
  assert (tmp_path / "checkpoints" / "damaged_8").exists()


def test_no_checkpoint_is_touched_where_all_are_damaged(
  toy, saved, state, tmp_path
):
  workdir = tmp_path / "run"
  shutil.copytree(saved, workdir)
  for step in (2, 6, 8):
    damage(workdir / "checkpoints" / str(step), "state", "cut")
  writer = open_writer(toy, workdir)
  with pytest.raises(UserError, match="none of .* .steps 8, 6, 2.; move them"):
    writer.restore(state)
  writer.close()
  assert {x.name for x in (workdir / "checkpoints").iterdir()} == {
    "2",
    "6",
    "8",
  }


def test_checkpoint_damaged_twice_keeps_both(toy, saved, state, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(saved, workdir)
  (workdir / "checkpoints" / "damaged_8").mkdir()
  damage(workdir / "checkpoints" / "8", "state", "cut")
  writer = open_writer(toy, workdir)
  assert writer.restore(state).step == 6
  writer.close()
  names = {x.name for x in (workdir / "checkpoints").iterdir()}
  assert names == {"2", "6", "damaged_8", "damaged_8_again"}


@pytest.mark.parametrize(
  "text",
  [
    '{"mask_A',
    '{"mask_AQ": 0.5}',  # one wrong bit
    '{"mask_AP": "0.5"}',
    '{"mask_AP": {}}',
    '{"mask_AP": NaN}',
    "[1]",
    '{"mask_AP": 1e999}',
  ],
)
def test_damaged_metrics_cost_no_checkpoint(
  toy, saved, state, tmp_path, caplog, text
):
  workdir = tmp_path / "run"
  shutil.copytree(saved, workdir)
  path = workdir / "checkpoints" / "8" / "metrics" / "metrics"
  path.write_text(text)
  assert load(str(workdir)).step == 8  # reads none of them
  writer = open_writer(toy, workdir)
  assert f"metrics {path} are damaged" in caplog.messages[-1]
  assert writer.restore(state).step == 8
  assert writer.metrics(8) is None
  save(writer, at_step(state, 9), {"mask_AP": 0.1})  # and the next is saved
  assert writer.latest_step() == 9
  writer.close()
