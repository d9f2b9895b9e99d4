"""Writes and reads checkpoints in `workdir/checkpoints/<step>`.

Each contains the train state as plain host arrays (so that it can be resumed on
any number of devices) and, as JSON, the config, class names and category ids,
and a checksum of everything, as Orbax has none for large arrays.

A save copies the state to the host and returns; Orbax writes the copy during
the next steps. A checkpoint counts as saved, and is reported, once `finished`
returns it: it is then complete (its folder is renamed; on a bucket, a last file
is added), and only then are older ones removed. One is written at a time: a
save waits for the previous one. A kill loses the steps since the last finished
checkpoint.
"""

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Iterator
from typing import Any

import flax.serialization
import jax
import ml_collections
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers as policies

from solo_jax import parallel
from solo_jax.checkpoints.compatibility import (
  check_same_data,
  check_same_run,
  check_tree,
)
from solo_jax.checkpoints.damage import (
  reason,
  set_aside_metrics,
  sign,
  without_echoes,
)
from solo_jax.checkpoints.folders import (
  absolute,
  check_writable,
  find_checkpoint,
)
from solo_jax.checkpoints.reading import check_opens, read
from solo_jax.checkpoints.state import TrainState
from solo_jax.config import from_json, to_json
from solo_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
  """A trained model with everything needed to use it.

  Attributes:
    config: The configuration it was trained with, locked.
    class_names: Name of each label 0..K-1.
    category_ids: The dataset's own id of each label.
    variables: {'params', 'batch_stats'} of numpy arrays; `params` are the
      averaged ones if the run kept an average.
    step: Training steps taken.
    exif: What was done in training with orientation tags of images: 'apply' or
      'ignore'; None where it is not known.
    origin: Where converted weights are from: file, code base, licence and so
      on; empty if they were trained here.
    untrained: Modules of the network that started from random values and have
      had no more than the optimizer's warm-up.
  """

  config: ml_collections.ConfigDict
  class_names: tuple[str, ...]
  category_ids: tuple[int, ...]
  variables: dict[str, Any]
  step: int
  exif: str | None = None
  origin: dict[str, Any] = dataclasses.field(default_factory=dict)
  untrained: tuple[str, ...] = ()

  def warnings(self) -> list[str]:
    """Returns what a user must know about the weights, as lines."""
    if not self.untrained:
      return []
    return [
      f"warning: {', '.join(self.untrained)} started from random values and "
      f"had {self.step} training steps, all in the warm-up: detections are "
      "meaningless"
    ]


class CheckpointWriter:
  """Saves and restores the states of one run.

  Attributes:
    folder: Folder of the checkpoints.
    fresh: Modules that started from random values, saved with each checkpoint;
      set before the first save, and by `restore`.
  """

  def __init__(
    self,
    workdir: str,
    *,
    config: ml_collections.ConfigDict,
    class_names: tuple[str, ...],
    category_ids: tuple[int, ...],
    data: dict[str, Any],
  ):
    """Opens or creates the run's checkpoint folder.

    Args:
      workdir: Folder of the run.
      config: Saved with each checkpoint; `training.keep_latest` and
        `training.keep_best` set how many checkpoints are kept.
      class_names: Saved with each checkpoint.
      category_ids: Saved with each checkpoint.
      data: What is trained on: 'images', their number, 'exif' and
        'fingerprint', see Records. Saved with each checkpoint.

    Raises:
      UserError: If checkpoints cannot be written to a folder of this name.
    """
    check_writable(workdir)
    self.fresh: tuple[str, ...] = ()
    self.folder = absolute(workdir) / "checkpoints"
    self._has_failed = False
    set_aside_metrics(self.folder)
    self._info = {
      "config": json.loads(to_json(config)),
      "class_names": list(class_names),
      "category_ids": [int(x) for x in category_ids],
      "data": data,
    }
    keep = [policies.LatestN(config.training.keep_latest)]
    if config.training.keep_best:
      keep.append(
        policies.BestN(get_metric_fn=_rank, n=config.training.keep_best)
      )
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        best_fn=_rank,  # without it, best_step() is silently the latest
        best_mode="max",
        preservation_policy=policies.AnyPreservationPolicy(keep),
        cleanup_tmp_directories=True,  # left by a killed run
      ),
    )
    self._writing: int | None = None  # step that is being written
    self._echoes = contextlib.ExitStack()
    self._echoes.enter_context(without_echoes())

  def latest_step(self) -> int | None:
    """Returns the step of the newest checkpoint, complete or not."""
    return self._manager.latest_step()

  def metrics(self, step: int) -> dict[str, float | None] | None:
    """Returns the evaluation saved with a checkpoint, or None."""
    return self._manager.metrics(step) or None

  def save(self, state: TrainState) -> None:
    """Starts saving a state once the previous one is on disk; see `finished`.

    Does nothing if the newest checkpoint is of the same step.

    Args:
      state: Replicated state, may be donated afterwards.

    Raises:
      UserError: If it, or the previous one, cannot be written. Earlier
        checkpoints remain unchanged.
    """
    self.finished(wait=True)
    host = parallel.fetch(state)
    step = int(host.step)
    if step == self.latest_step():
      return
    tree = flax.serialization.to_state_dict(host)
    with self._reporting_errors("checkpoint", step):
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(tree),
          info=ocp.args.JsonSave(
            sign(self._info | {"fresh": list(self.fresh)}, tree)
          ),
        ),
        metrics={},  # see `add_metrics`; Orbax warns if there are none
        force=True,
      )
    self._writing = step

  def finished(self, *, wait: bool = False) -> int | None:
    """Returns the checkpoint that was completed since the last call.

    Args:
      wait: Whether to wait for one that is being written.

    Returns:
      Its step, which is now permanent; None if there is none.

    Raises:
      UserError: If it cannot be written. Earlier checkpoints remain unchanged.
    """
    step = self._writing
    if step is None or (not wait and self._manager.is_saving_in_progress()):
      return None
    self._writing = None
    with self._reporting_errors("checkpoint", step):
      self._manager.wait_until_finished()
      check_opens(self.folder / str(step))
    return step

  def add_metrics(self, step: int, metrics: dict[str, float | None]) -> None:
    """Adds an evaluation to a checkpoint, to choose the best ones by.

    Orbax could save it with the state, but the state must be safe before an
    evaluation, which may be long and may fail. So the best are chosen from the
    next save on.

    Args:
      step: Step of a finished checkpoint.
      metrics: Evaluation of its state, with 'mask_AP'.

    Raises:
      UserError: If they cannot be written. All checkpoints remain unchanged.
    """
    if jax.process_index() == 0:
      path = self.folder / str(step) / "metrics" / "metrics"
      with self._reporting_errors("evaluation", step):
        path.with_name("new").write_text(json.dumps(metrics))
        path.with_name("new").replace(path)  # atomic
    parallel.any_process(False)  # written before the other processes read it
    self._manager.reload()

  @contextlib.contextmanager
  def _reporting_errors(self, what: str, step: int) -> Iterator[None]:
    """Raises a UserError that names the checkpoint and the last one saved."""
    try:
      yield
    except (
      Exception
    ) as error:  # various exceptions, depending on the file system
      self._has_failed = True
      saved = self._manager.all_steps()
      if what == "checkpoint":
        saved = [x for x in saved if x != step]
      raise UserError(
        f"the {what} of step {step} cannot be written to {self.folder} "
        f"({reason(error)}); "
        + (
          f"step {max(saved)} is the last one saved"
          if saved
          else "nothing was saved before"
        )
        + ". Fix the cause and rerun the same command"
      ) from error

  def restore(
    self,
    state: TrainState,
    *,
    change_batch_size: bool = False,
    change_data: bool = False,
  ) -> TrainState:
    """Returns the state of the newest complete checkpoint.

    Damaged ones are logged and renamed to `damaged_<step>`, so that the run can
    save these steps again.

    Args:
      state: A state of the run's network and optimizer, for its structure.
      change_batch_size: Whether `training.batch_size` may differ.
      change_data: Whether the data may differ from those trained on.

    Returns:
      The saved state, of numpy arrays.

    Raises:
      UserError: If all checkpoints are damaged, or the run's config, data,
        classes or tree differ from the saved ones.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    damaged = []
    for step in steps:
      saved = None
      try:
        saved = read(self.folder / str(step))
      except UserError as error:
        logging.error("%s", error)
      # All processes resume from the same one.
      if not parallel.any_process(saved is None):
        break
      damaged.append(step)
    else:
      raise UserError(
        f"none of the checkpoints in {self.folder} can be read (steps "
        f"{', '.join(map(str, steps))}); move them away to start at step 0"
      )
    self._set_aside(damaged)
    self.fresh = tuple(saved["info"].pop("fresh", ()))
    where = f"cannot resume from {self.folder / str(step)}"
    if change_batch_size:
      batch_size = self._info["config"]["training"]["batch_size"]
      saved["info"]["config"]["training"]["batch_size"] = batch_size
    check_same_data(
      saved["info"].pop("data", None),
      self._info["data"],
      where,
      is_change_accepted=change_data,
    )
    check_same_run(saved["info"], self._info | {"data": None}, where)
    expected = flax.serialization.to_state_dict(state)
    check_tree(saved["state"], expected, where)
    return flax.serialization.from_state_dict(state, saved["state"])

  def _set_aside(self, damaged: list[int]) -> None:
    """Renames damaged checkpoints; nothing is deleted."""
    for step in damaged if jax.process_index() == 0 else ():
      names = (f"damaged_{step}{'_again' * n}" for n in itertools.count())
      name = next(x for x in names if not (self.folder / x).exists())
      (self.folder / str(step)).rename(self.folder / name)
      logging.warning(
        "the damaged checkpoint of step %d was renamed to %s", step, name
      )
    if damaged:
      parallel.any_process(False)  # renamed before the other processes look
      self._manager.reload()

  def close(self) -> None:
    """Waits for a checkpoint being written and stops Orbax's threads."""
    try:
      self.finished(wait=True)
    finally:
      with contextlib.suppress(Exception):  # reported when it first occurred
        self._manager.close()
      if not self._has_failed:  # some threads have yet to reach it
        self._echoes.close()


def load(path: str, *, is_unsigned_read: bool = False) -> Checkpoint:
  """Returns a trained model.

  Args:
    path: Folder of a run (its newest checkpoint is used) or of one
      checkpoint, `workdir/checkpoints/<step>` or a copy of it elsewhere.
    is_unsigned_read: See `reading.read`.

  Returns:
    The checkpoint.

  Raises:
    UserError: If there is none (the message lists what is there), or it
      is damaged or without a checksum.
  """
  folder = find_checkpoint(path)
  saved = read(folder, is_unsigned_read=is_unsigned_read)
  state, info = saved["state"], saved["info"]
  missing = {"step", "params", "batch_stats", "ema_params"} - set(state)
  if missing:
    raise UserError(f"checkpoint {folder} has no {sorted(missing)}")
  average = state["ema_params"]
  config, step = from_json(json.dumps(info["config"])), int(state["step"])
  is_warm = step >= max(1, config.optimizer.warmup_steps)
  return Checkpoint(
    config=config,
    class_names=tuple(info["class_names"]),
    category_ids=tuple(info["category_ids"]),
    variables={
      "params": state["params"] if average is None else average,
      "batch_stats": state["batch_stats"] or {},
    },
    step=step,
    exif=info.get("data", {}).get("exif"),
    origin=info.get("converted_from", {}),
    untrained=() if is_warm else tuple(info.get("fresh", ())),
  )


def _rank(metrics: dict[str, float | None]) -> float:
  """Returns the AP to rank by, below any AP if there is none."""
  mask_ap = metrics.get("mask_AP") if metrics else None
  return -1.0 if mask_ap is None else mask_ap
