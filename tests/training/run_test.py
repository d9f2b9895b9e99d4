"""Tests of solo_jax/training/run.py."""

import os
import signal
import time

import jax
import numpy as np
import pytest

from solo_jax import parallel, types
from solo_jax.checkpoints.store import CheckpointWriter
from solo_jax.errors import UserError
from solo_jax.training import run as run_module
from solo_jax.training.logging import RunLog, read_rows
from solo_jax.training.run import Run, is_due
from solo_jax.training.stopping import Stopped, StopRequest


def train(toy, workdir, *, batches=None, evaluate=None, rate=0.1, **training):
  """Trains the toy as `train_and_evaluate` does; returns (state, metrics)."""
  config = toy.make_toy_config(**training)
  state, step = toy.make_toy_run(rate=rate, ema_decay=0.9)
  writer = CheckpointWriter(
    str(workdir),
    config=config,
    class_names=("a",),
    category_ids=(1,),
    data={"images": 8, "exif": "ignore", "fingerprint": "0"},
  )
  first_step = writer.latest_step() or 0
  if first_step:
    state = parallel.replicate(writer.restore(state))
  log = RunLog(str(workdir), first_step=first_step)
  run = Run(config, writer, log, eval_records=None)
  run._evaluate = evaluate or (lambda state: {"mask_AP": 0.25})
  batches = batches or toy.make_toy_batches(first_step)
  try:
    with StopRequest() as stop:
      state = run.take_steps(state, step, batches, stop)
      return parallel.fetch(state), run.finish(state, stop)
  finally:
    writer.close()
    log.close()


def saved_steps(workdir, *, finished_only=False):
  names = [x.name for x in (workdir / "checkpoints").iterdir()]
  return {int(x) for x in names if x.isdigit() or not finished_only}


@pytest.fixture(scope="module")
def finished(toy, tmp_path_factory):
  """(folder, final state, metrics) of an undisturbed run."""
  workdir = tmp_path_factory.mktemp("run")
  return workdir, *train(toy, workdir)


def test_finished_run(finished):
  workdir, state, metrics = finished
  assert state.step == 10 and metrics == {"mask_AP": 0.25}
  assert saved_steps(workdir) == {8, 10}
  rows = read_rows(workdir / "metrics.jsonl")
  # Every 3 steps, before a checkpoint and at the end.
  assert [row["step"] for row in rows] == [3, 4, 6, 8, 9, 10, 10]
  assert rows[-1]["val/mask_AP"] == 0.25
  # 0 + 1 + ... + 7 instances dropped from each batch of 8.
  assert rows[0]["train/instances_dropped"] == 3 * 28
  assert rows[2]["train/instances_dropped"] == 2 * 28
  assert rows[5]["train/instances_dropped_total"] == 10 * 28
  assert rows[5]["train/corrupt_images_dropped_total"] == 10
  assert rows[5]["train/num_compiled"] == 1


def test_steps_are_logged_while_the_next_one_runs(toy, tmp_path, monkeypatch):
  events = []
  map_step, write = parallel.map_step, RunLog.metrics

  def map_recorded(step):
    mapped = map_step(step)

    def record(state, batch):
      events.append("step")
      return mapped(state, batch)

    return record

  def write_recorded(log, step, values, text):
    events.append(step)
    write(log, step, values, text)

  monkeypatch.setattr(parallel, "map_step", map_recorded)
  monkeypatch.setattr(RunLog, "metrics", write_recorded)
  train(toy, tmp_path, num_steps=7, checkpoint_every_steps=5)
  # Row 3 is written when step 4 has been started; row 5 before the checkpoint
  # of step 5, which must not be saved after too many non-finite steps, and with
  # which a run continues that has no other record of steps 4 and 5.
  steps = ["step"] * 7
  assert events == [*steps[:4], 3, steps[4], 5, *steps[5:7], 6, 7, 7]


def test_saved_is_logged_once_a_checkpoint_is_whole(toy, tmp_path, monkeypatch):
  """However slow the disk is: here no step finds it ready."""
  events = []
  finished = CheckpointWriter.finished

  def finish_late(writer, *, wait=False):
    return finished(writer, wait=True) if wait else None

  def say(log, text):
    if text.endswith("is saved"):
      events.append((text, max(saved_steps(tmp_path, finished_only=True))))

  monkeypatch.setattr(CheckpointWriter, "finished", finish_late)
  monkeypatch.setattr(RunLog, "message", say)
  train(toy, tmp_path)
  assert events == [(f"step {n} is saved", n) for n in (4, 8, 10)]


def test_finished_run_is_not_evaluated_again(toy, finished, capsys):
  workdir, state, _ = finished

  def evaluate(state):
    pytest.fail("evaluated again")

  again, metrics = train(toy, workdir, evaluate=evaluate)
  assert metrics == {"mask_AP": 0.25}
  jax.tree.map(np.testing.assert_array_equal, again, state)
  assert "already been evaluated" in capsys.readouterr().out


def test_stopped_run_saves_and_resumes_bit_for_bit(
  toy, finished, tmp_path, capsys
):
  def interrupted():
    for index, batch in enumerate(toy.make_toy_batches(0)):
      if index == 6:  # read while step 6 runs
        os.kill(os.getpid(), signal.SIGTERM)
      yield batch

  with pytest.raises(Stopped) as error:
    train(toy, tmp_path, batches=interrupted())
  assert error.value.code == 143
  assert "step 6 is saved" in capsys.readouterr().out
  assert saved_steps(tmp_path) == {4, 6}
  state, metrics = train(toy, tmp_path)
  jax.tree.map(np.testing.assert_array_equal, state, finished[1])
  assert metrics == finished[2]
  steps = [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")]
  assert steps == [3, 4, 6, 8, 9, 10, 10]


def test_evaluation_between_steps_decides_the_best(toy, tmp_path):
  values = iter([0.1, 0.9, 0.2, 0.3, 0.4])
  train(
    toy,
    tmp_path,
    evaluate=lambda state: {"mask_AP": next(values)},
    eval_every_steps=2,
    keep_latest=1,
  )
  # Each is ranked by the save that follows its evaluation.
  assert saved_steps(tmp_path) == {4, 10}
  assert next(values, None) is None  # the last step is evaluated once


def test_state_is_saved_before_it_is_evaluated(toy, tmp_path):
  """A kill during a long evaluation loses no step either."""

  def evaluate(state):
    deadline = time.monotonic() + 600
    while 10 not in saved_steps(tmp_path, finished_only=True):
      assert time.monotonic() < deadline
    return {"mask_AP": 0.25}

  train(toy, tmp_path, evaluate=evaluate)


def test_failed_evaluation_loses_no_step(toy, tmp_path):
  def evaluate(state):
    raise RuntimeError("out of memory")

  with pytest.raises(RuntimeError, match="out of memory"):
    train(toy, tmp_path, evaluate=evaluate)
  assert 10 in saved_steps(tmp_path)
  _, metrics = train(toy, tmp_path)
  assert metrics == {"mask_AP": 0.25}

  def evaluate_again(state):
    pytest.fail("evaluated again")

  _, metrics = train(toy, tmp_path, evaluate=evaluate_again)
  assert metrics == {"mask_AP": 0.25}


def test_signal_during_evaluation_saves_at_once(toy, tmp_path):
  def evaluate(state):
    os.kill(os.getpid(), signal.SIGINT)
    pytest.fail("went on")

  with pytest.raises(Stopped) as error:
    train(toy, tmp_path, evaluate=evaluate, eval_every_steps=5)
  assert error.value.code == 130
  assert 5 in saved_steps(tmp_path)


def test_evaluation_that_was_ended_is_made_up_for(toy, tmp_path):
  def fail(state):
    raise MemoryError

  with pytest.raises(MemoryError):
    train(toy, tmp_path, evaluate=fail, eval_every_steps=4)
  evaluated = []

  def evaluate(state):
    evaluated.append(int(parallel.fetch(state.step)))
    return {"mask_AP": 0.5}

  for _ in range(2):
    train(toy, tmp_path, evaluate=evaluate, eval_every_steps=4)
  assert evaluated == [4, 8, 10]
  rows = read_rows(tmp_path / "metrics.jsonl")
  assert [x["step"] for x in rows if "val/mask_AP" in x] == [4, 8, 10]


def test_run_that_only_skips_steps_is_stopped(toy, tmp_path):
  def broken():
    for index, batch in enumerate(toy.make_toy_batches(0)):
      if index >= 4:
        batch = jax.tree.map(lambda x: x, batch)
        object.__setattr__(batch, "centers", batch.centers + np.nan)
      yield batch

  with pytest.raises(UserError, match="not finite in steps 5 to 8"):
    train(toy, tmp_path, batches=broken(), num_steps=20)
  row = read_rows(tmp_path / "metrics.jsonl")[-1]
  assert row["train/nonfinite_in_row"] >= 3


class FakePredictor:
  """Finds the same instances in every image; shows inverted colours."""

  def __init__(self, found, has_views):
    self.found, self.has_views = found, has_views

  def __call__(self, image):
    return self.found

  def views(self, image):
    return {"inverted": np.uint8(255 - image // 256)}


@pytest.mark.parametrize("has_views", [False, True])
def test_pictures_of_prediction_and_truth(
  toy, tmp_path, monkeypatch, has_views
):
  rng = np.random.default_rng(0)
  sample = make_sample(rng)
  records = Records([sample, sample])
  monkeypatch.setattr(run_module, "read_sample", lambda record: record)
  predictor = FakePredictor(make_instances(sample), has_views)
  monkeypatch.setattr(Run, "_update_predictor", lambda *_: predictor)
  config = toy.make_toy_config(num_pictures=5)
  log = RunLog(str(tmp_path), first_step=0)
  Run(config, None, log, records)._draw_pictures(None, 20)
  log.close()
  names = {x.name for x in (tmp_path / "pictures").iterdir()}
  views = {"000020_7_views.png"} if has_views else set()
  assert names == {"000020_7.png"} | views


def make_sample(rng):
  masks = np.zeros((2, 32, 48), bool)
  masks[:, 4:20, 4:30] = True
  return types.Sample(
    image=rng.integers(0, 65535, (32, 48, 3)).astype(np.uint16),
    masks=masks,
    labels=np.zeros(2, np.int32),
    areas=np.ones(2),
    boxes_xyxy=np.tile([4.0, 4.0, 30.0, 20.0], (2, 1)),
    is_crowd=np.array([False, True]),
    annotation_ids=np.arange(2),
    image_id=7,
    file_name="7.png",
    original_size=(32, 48),
    affine=np.eye(2, 3),
    image_size=(32, 48),
  )


def make_instances(sample):
  return types.Instances(
    masks=sample.masks[:1],
    scores=np.ones(1, np.float32),
    labels=sample.labels[:1],
    boxes_xyxy=sample.boxes_xyxy[:1].astype(np.float32),
  )


class Records(list):
  class_names = ("nucleus",)
  category_ids = (1,)
  is_thing = ()


def test_events_are_due_every_n_steps():
  assert is_due(6, 3) and not is_due(7, 3) and not is_due(6, 0)
