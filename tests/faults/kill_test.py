"""Runs that are killed or asked to stop, at any moment."""

import random
import signal
import time

import pytest
import toy_runs

pytestmark = pytest.mark.slow

LONG = (
  "--config.training.num_steps=240",
  "--config.training.checkpoint_every_steps=6",
  "--config.training.log_every_steps=4",  # not at each checkpoint
)
# How far a run gets before it is killed.
MOMENTS = ["start"] * 4 + ["steps"] * 6 + ["writing"] * 10


def test_a_run_killed_twenty_times_ends_like_an_undisturbed_one(
  data_dir, tmp_path
):
  undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
  begin = time.monotonic()
  run = toy_runs.start(data_dir, undisturbed, *LONG)
  run.wait_for(r"step +\d+/")
  start_seconds = time.monotonic() - begin
  assert run.wait() == 0, run.output

  rng = random.Random(0)
  moments = rng.sample(MOMENTS, len(MOMENTS))
  num_inside, saved, table = 0, 0, []
  for moment in moments:
    run = toy_runs.start(data_dir, killed, *LONG)
    if moment == "start":
      end = time.monotonic() + rng.uniform(0, start_seconds)
      step = toy_runs.last_step(killed) + 12  # starts differ in their speed
      run.wait_until(
        lambda end=end, step=step: (
          time.monotonic() > end or toy_runs.last_step(killed) > step
        )
      )
    elif moment == "steps":
      run.wait_for(r"step +\d+/")
      step = toy_runs.last_step(killed) + rng.randint(0, 9)
      run.wait_until(lambda step=step: toy_runs.last_step(killed) >= step)
    else:
      run.wait_for(r"step +\d+/")
      if rng.random() < 0.5:  # not the first write of this process
        run.wait_for("is saved")
      run.wait_until(
        lambda: not toy_runs.has_unfinished(killed)
      )  # what was left
      run.wait_until(lambda: toy_runs.has_unfinished(killed))
      time.sleep(rng.choice([0, rng.uniform(0, 0.05)]))
    assert run.kill() == -signal.SIGKILL, (moment, run.output)
    is_inside = toy_runs.has_unfinished(killed)
    num_inside += is_inside
    # What earlier processes reported as saved, this one resumed from.
    if "starting at" in run.output or "resuming" in run.output:
      assert toy_runs.resumed_from(run.output) >= saved
    saved = max([saved, *toy_runs.steps_reported(run.output)])
    assert saved in (0, *toy_runs.steps_saved(killed))
    table.append((moment, toy_runs.last_step(killed), saved, is_inside))
  print(*table, sep="\n")
  assert num_inside >= 5

  run = toy_runs.finish(data_dir, killed, *LONG)
  assert saved <= toy_runs.resumed_from(run.output) < 240
  toy_runs.assert_same_end(killed, undisturbed)
  assert not toy_runs.has_unfinished(killed)


@pytest.mark.parametrize(
  ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_run_that_is_asked_to_stop_saves_first(
  data_dir, undisturbed, tmp_path, number, code
):
  """What schedulers do before they take a machine; a closed terminal."""
  workdir = tmp_path / "run"
  run = toy_runs.start(data_dir, workdir)
  run.wait_until(lambda: toy_runs.last_step(workdir) >= 5)
  run.process.send_signal(number)
  assert run.wait() == code
  (*_, step) = toy_runs.steps_reported(run.output)
  # Saved at the step that was under way, not at the last multiple of 4.
  assert (
    step == toy_runs.last_step(workdir) == toy_runs.steps_saved(workdir)[-1]
  )
  run = toy_runs.finish(data_dir, workdir)
  assert toy_runs.resumed_from(run.output) == step
  toy_runs.assert_same_end(workdir, undisturbed)


# The networks of configs on small images, as narrow as they can be.
SMALL_INPUT = (
  "--config.transforms.image_size=(64,64)",
  "--config.transforms.augment=(('resize_short_side',{'short_sides':(64,),"
  "'max_side':64}),)",
  "--config.preprocessing.short_side=64",
  "--config.preprocessing.max_side=64",
  "--config.backbone.stage_sizes=(1,1,1,1)",
  "--config.backbone.widths=(8,8,8,8)",
)
SMALL = dict(
  solov2_shapes=(
    "--config.network.fpn_channels=8",
    "--config.network.head_channels=8",
    "--config.network.mask_channels=8",
    "--config.network.kernel_channels=8",
    "--config.network.num_groups=4",
  ),
  mask2former_shapes=(
    "--config.network.channels=32",
    "--config.network.mask_channels=8",
    "--config.network.encoder_hidden=8",
    "--config.network.decoder_hidden=8",
    "--config.network.num_decoder_layers=1",
    "--config.loss.num_points=50",
  ),
)


@pytest.mark.parametrize("config", SMALL)
def test_killed_training(data_dir, tmp_path, config):
  """The command itself, with a real network and its evaluation."""
  undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
  small = (*SMALL_INPUT, *SMALL[config])
  command = dict(program=("-m", "solo_jax.train"), config=config)
  toy_runs.finish(data_dir, undisturbed, *small, **command)
  for kill_after in (10, 18):  # steps
    with toy_runs.started(data_dir, killed, *small, **command) as run:
      run.wait_until(lambda step=kill_after: toy_runs.last_step(killed) >= step)
    resumable = toy_runs.steps_saved(killed)[-1]
    # Lost at most: the checkpoint being written, and the steps since.
    assert kill_after <= toy_runs.last_step(killed) <= resumable + 8
  toy_runs.finish(data_dir, killed, *small, **command)
  toy_runs.assert_same_end(killed, undisturbed)
