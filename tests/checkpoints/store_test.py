"""Tests of solo_jax/checkpoints/store.py."""

import shutil
import time

import jax
import numpy as np
import pytest

from solo_jax import parallel
from solo_jax.checkpoints.folders import find_checkpoint
from solo_jax.checkpoints.store import CheckpointWriter, load
from solo_jax.errors import UserError
from tests.checkpoints.runs import DATA, at_step, open_writer, save


def test_latest_and_best_are_kept(toy, saved):
  steps = {int(x.name) for x in (saved / "checkpoints").iterdir()}
  assert steps == {2, 6, 8}
  writer = open_writer(toy, saved)
  assert writer.latest_step() == 8
  assert writer.metrics(2) == {"mask_AP": 0.5, "box_AP": None}
  assert writer.metrics(8) is None
  writer.close()


def test_checkpoint_is_whole_when_it_is_finished(toy, state, tmp_path):
  """A kill right after it is reported must find it."""
  writer = open_writer(toy, tmp_path)
  assert writer.finished(wait=True) is None
  for step in (4, 8):
    writer.save(at_step(state, step))
    while (finished := writer.finished()) is None:
      time.sleep(0.01)
    assert finished == step
    assert find_checkpoint(str(tmp_path)).name == str(step)
    assert writer.finished(wait=True) is None  # reported once
  writer.close()


def test_state_may_change_while_it_is_written(toy, state, tmp_path):
  """As when its arrays are donated to the next step."""
  expected = jax.tree.map(np.array, at_step(state, 4))
  changing = jax.tree.map(np.array, at_step(state, 4))
  writer = open_writer(toy, tmp_path)
  writer.save(changing)
  for array in jax.tree.leaves(changing):
    array.fill(7)
  writer.close()
  writer = open_writer(toy, tmp_path)
  jax.tree.map(np.testing.assert_array_equal, writer.restore(state), expected)
  writer.close()


def test_metrics_are_added_to_a_checkpoint(toy, state, tmp_path):
  writer = open_writer(toy, tmp_path, keep_latest=1)
  writer.save(at_step(state, 4))
  assert writer.finished(wait=True) == 4
  assert writer.metrics(4) is None
  writer.add_metrics(4, {"mask_AP": 0.5, "box_AP": None})
  assert writer.metrics(4) == {"mask_AP": 0.5, "box_AP": None}
  save(writer, at_step(state, 8), {"mask_AP": 0.2})
  save(writer, at_step(state, 12), {"mask_AP": 0.3})
  writer.close()
  # They count when the best is chosen, and for the next run.
  assert {x.name for x in (tmp_path / "checkpoints").iterdir()} == {"4", "12"}
  writer = open_writer(toy, tmp_path, keep_latest=1)
  assert writer.metrics(4) == {"mask_AP": 0.5, "box_AP": None}
  writer.close()


def test_checkpoints_without_metrics_rank_lowest(toy, state, tmp_path):
  writer = open_writer(toy, tmp_path, keep_latest=1)
  for step, mask_ap in ((1, 0.0), (2, None), (3, None)):
    save(writer, at_step(state, step), {"mask_AP": mask_ap})
  writer.close()
  steps = {int(x.name) for x in (tmp_path / "checkpoints").iterdir()}
  assert steps == {1, 3}


def test_restored_state_is_exact_and_of_plain_arrays(toy, saved, state):
  writer = open_writer(toy, saved, num_steps=20)  # may change
  found = writer.restore(state)
  writer.close()
  expected = at_step(state, 8)
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  assert all(type(x) is np.ndarray for x in jax.tree.leaves(found))
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_another_batch_size_is_refused_unless_asked_for(toy, saved, state):
  writer = open_writer(toy, saved, batch_size=16)
  with pytest.raises(UserError) as error:
    writer.restore(state)
  assert "training.batch_size: saved 8, now 16" in str(error.value)
  assert "pass --change_batch_size: " in str(error.value)
  found = writer.restore(state, change_batch_size=True)
  writer.close()
  jax.tree.map(np.testing.assert_array_equal, found, at_step(state, 8))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"fingerprint": "b"}, "fingerprint: saved abc, now b"),
    ({"exif": "ignore"}, "exif: saved apply, now ignore"),
    ({"images": 9, "fingerprint": "b"}, "images: saved 8, now 9"),
  ],
)
def test_other_data_are_refused_unless_asked_for(
  toy, saved, state, caplog, changes, message
):
  writer = open_writer(toy, saved, data=DATA | changes)
  with pytest.raises(UserError, match="not those it was trained") as error:
    writer.restore(state)
  assert message in str(error.value) and "--change_data" in str(error.value)
  found = writer.restore(state, change_data=True)
  writer.close()
  jax.tree.map(np.testing.assert_array_equal, found, at_step(state, 8))
  assert message in caplog.messages[-1]


def test_missing_names_of_the_data_are_logged(toy, state, tmp_path, caplog):
  writer = open_writer(toy, tmp_path)
  del writer._info["data"]
  writer.save(at_step(state, 3))
  writer.close()
  writer = open_writer(toy, tmp_path)
  assert writer.restore(state).step == 3
  writer.close()
  assert "training data are not recorded" in caplog.messages[-1]


def test_only_the_batch_size_is_let_pass(toy, saved, state):
  writer = open_writer(toy, saved, batch_size=16, log_every_steps=1)
  writer._info["config"]["seed"] = 1
  with pytest.raises(UserError) as error:
    writer.restore(state, change_batch_size=True)
  writer.close()
  assert "seed: saved 0, now 1" in str(error.value)
  assert "batch_size" not in str(error.value)


def test_save_copies_before_the_state_is_donated(toy, tmp_path):
  state, step = toy.make_toy_run()
  before = parallel.fetch(state)
  writer = open_writer(toy, tmp_path)
  writer.save(state)
  batch = toy.make_toy_batch(np.random.default_rng(0), 8)
  toy.map_toy_step(step)(state, parallel.split_batch(batch))
  writer.close()
  found = load_arrays(toy, tmp_path, before)
  jax.tree.map(np.testing.assert_array_equal, found, before)


def load_arrays(toy, workdir, state):
  writer = open_writer(toy, workdir)
  try:
    return writer.restore(state)
  finally:
    writer.close()


def test_load_gives_the_average_and_what_is_needed_to_use_it(saved, state):
  checkpoint = load(str(saved))
  assert checkpoint.step == 8
  assert checkpoint.class_names == ("disc", "star")
  assert checkpoint.category_ids == (3, 90)
  assert checkpoint.exif == "apply"
  assert checkpoint.config.optimizer.decay_steps == (5, 8)
  assert checkpoint.config.is_locked
  host = parallel.fetch(state)
  jax.tree.map(
    np.testing.assert_array_equal,
    checkpoint.variables,
    {"params": host.ema_params, "batch_stats": host.batch_stats},
  )


def test_load_one_step_and_the_folder_of_steps(saved):
  assert load(str(saved / "checkpoints" / "2")).step == 2
  assert find_checkpoint(str(saved / "checkpoints")).name == "8"


def test_load_without_average_gives_the_parameters(toy, tmp_path):
  state = at_step(toy.make_toy_run()[0], 3)
  writer = open_writer(toy, tmp_path)
  writer.save(state)
  writer.close()
  jax.tree.map(
    np.testing.assert_array_equal,
    load(str(tmp_path)).variables["params"],
    state.params,
  )


def test_checkpoint_of_before_a_field_gets_what_runs_did_then(
  toy, state, tmp_path
):
  writer = open_writer(toy, tmp_path)
  del writer._info["config"]["backbone"]["remat"]
  writer.save(at_step(state, 3))
  writer.close()
  assert load(str(tmp_path)).config == toy.make_toy_config()
  writer = open_writer(toy, tmp_path)
  assert writer.restore(state).step == 3
  writer.close()


def test_checkpoint_that_cannot_be_opened_is_not_reported(
  toy, state, tmp_path, monkeypatch
):
  """As if Orbax wrote to other files than it reads."""
  writer = open_writer(toy, tmp_path)
  writer.save(at_step(state, 4))
  assert writer.finished(wait=True) == 4
  writer.save(at_step(state, 5))
  writer._manager.wait_until_finished()
  (tmp_path / "checkpoints" / "5" / "state" / "manifest.ocdbt").unlink()
  with pytest.raises(UserError, match="step 5 cannot.*step 4 is the last one"):
    writer.finished(wait=True)
  assert writer.finished(wait=True) is None
  writer.close()


def test_folder_of_a_run_with_brackets_is_refused(toy, tmp_path):
  with pytest.raises(UserError, match="path has .* in 'run.2.'; choose"):
    open_writer(toy, tmp_path / "run[2]" / "x")


def test_checkpoint_that_cannot_be_written(toy, state, tmp_path, monkeypatch):
  writer = open_writer(toy, tmp_path)

  def save(*args, **kwargs):
    raise OSError(28, "No space left on device")

  for before in ("nothing was saved before", "step 4 is the last one saved"):
    with monkeypatch.context() as patch:
      patch.setattr(writer._manager, "save", save)
      with pytest.raises(UserError, match="step 5 .*No space left") as error:
        writer.save(at_step(state, 5))
    assert before in str(error.value)
    writer.save(at_step(state, 4))
  writer.close()


def test_metrics_that_cannot_be_written(toy, state, tmp_path, monkeypatch):
  writer = open_writer(toy, tmp_path)
  writer.save(at_step(state, 4))
  writer.finished(wait=True)

  def fail(*args):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr("etils.epath.Path.write_text", fail)
  message = "the evaluation of step 4 .*No space left.*step 4 is the last one"
  with pytest.raises(UserError, match=message):
    writer.add_metrics(4, {"mask_AP": 0.5})
  writer.close()


def test_failure_behind_the_steps_is_raised_and_nothing_reported(
  toy, state, tmp_path, monkeypatch
):
  writer = open_writer(toy, tmp_path)
  writer.save(at_step(state, 4))
  assert writer.finished(wait=True) == 4
  # What Orbax calls in its thread when all arrays are written.
  commit = "orbax.checkpoint.checkpoint_manager.CheckpointManager"

  def fail(*args):
    raise OSError(28, "No space left on device")

  with monkeypatch.context() as patch:
    patch.setattr(f"{commit}._wait_for_checkpointers", fail)
    writer.save(at_step(state, 5))
    message = "step 5 .*No space left.*step 4 is the last one saved"
    with pytest.raises(UserError, match=message):
      writer.finished(wait=True)
  assert writer.finished(wait=True) is None
  monkeypatch.setattr(writer._manager, "wait_until_finished", lambda: None)
  writer.close()


def test_unfinished_checkpoint_of_a_killed_run_is_ignored(toy, saved, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(saved, workdir)
  steps = workdir / "checkpoints"
  shutil.copytree(steps / "8", steps / "9.orbax-checkpoint-tmp")
  assert load(str(workdir)).step == 8
  writer = open_writer(toy, workdir)
  assert writer.latest_step() == 8
  writer.close()


def test_another_config_is_refused_by_field(toy, saved, state):
  config = toy.make_toy_config(batch_size=16, log_every_steps=1)
  with config.unlocked():
    config.optimizer.learning_rate = 0.2
  writer = CheckpointWriter(
    str(saved),
    config=config,
    class_names=("disc", "ring"),
    category_ids=(3, 90),
    data=DATA,
  )
  with pytest.raises(UserError, match="saved with another config") as error:
    writer.restore(state)
  writer.close()
  assert "optimizer.learning_rate: saved 0.1, now 0.2" in str(error.value)
  assert "training.batch_size: saved 8, now 16" in str(error.value)
  assert "class_names" in str(error.value)
  assert "log_every_steps" not in str(error.value)


def test_resuming_with_another_optimizer_names_its_arrays(toy, saved):
  writer = open_writer(toy, saved)
  with pytest.raises(UserError, match="opt_state.*missing"):
    writer.restore(toy.make_toy_run(name="sgd", ema_decay=0.9)[0])
  writer.close()


def test_what_was_never_trained_is_known_until_the_warm_up_ends(
  toy, state, tmp_path
):
  config = toy.make_toy_config()
  warmup = config.optimizer.warmup_steps
  writer = open_writer(toy, tmp_path)
  writer.fresh = ("head",)
  writer.save(at_step(state, 0))
  writer.close()
  checkpoint = load(str(tmp_path))
  assert checkpoint.untrained == ("head",)
  (line,) = checkpoint.warnings()
  assert "head started from random values and had 0 training steps" in line
  # Another process resumes, and its checkpoints still know.
  writer = open_writer(toy, tmp_path)
  writer.restore(state)
  assert writer.fresh == ("head",)
  writer.save(at_step(state, max(1, warmup)))
  writer.close()
  trained = load(str(tmp_path))
  assert trained.untrained == () and trained.warnings() == []
