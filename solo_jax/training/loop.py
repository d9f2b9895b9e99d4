"""The training run from config to final metrics.

`train_and_evaluate` reads top to bottom as a list of the stages.
"""

import contextlib
import shlex

import jax
import ml_collections

from solo_jax import parallel
from solo_jax.building import build_method, check_config
from solo_jax.checkpoints.compatibility import flatten
from solo_jax.checkpoints.state import (
  create_train_state,
  init_variables,
)
from solo_jax.checkpoints.store import CheckpointWriter
from solo_jax.data.records import Records
from solo_jax.errors import UserError
from solo_jax.scoring.records import check_things
from solo_jax.training.logging import RunLog
from solo_jax.training.optimizer import scale_learning_rate
from solo_jax.training.run import Run
from solo_jax.training.setup import (
  build_optimizer,
  check_stuff,
  describe,
  describe_data,
  iterate_batches,
  load_initial,
  open_data,
)
from solo_jax.training.step import make_train_step
from solo_jax.training.stopping import StopRequest
from solo_jax.training.workdir import claim


def train_and_evaluate(
  config: ml_collections.ConfigDict,
  workdir: str,
  *,
  change_batch_size: bool = False,
  change_data: bool = False,
) -> dict[str, float | None]:
  """Trains a method and evaluates it; resumes from the last checkpoint.

  Args:
    config: A complete configuration, as made by the files in configs/.
    workdir: Folder of the run: checkpoints/, metrics.jsonl, tensorboard/ and
      pictures/. Calling again with the same config and folder resumes, on any
      number of devices and processes.
    change_batch_size: Whether to resume from a checkpoint of another
      `training.batch_size`.
    change_data: Whether to resume from a checkpoint that was trained on other
      data of the same name.

  Returns:
    Metrics of the final evaluation by name, as `Metrics.scalars`.

  Raises:
    UserError: If the config is invalid, does not fit the data or the devices,
      or differs from that of the checkpoints in `workdir` or of another
      process; if `workdir` holds converted weights, is used by another run or
      cannot be written; if the records are missing or differ from those trained
      on; after too many non-finite steps in a row.
    Stopped: After SIGTERM, SIGHUP or Ctrl-C, when the state is saved.
  """
  # --- Config against devices
  check_config(config)
  parallel.check_batch_size(
    config.training.batch_size, config.optimizer.accumulate
  )
  with contextlib.ExitStack() as stack:
    stack.enter_context(claim(workdir))
    accepted = dict(
      change_batch_size=change_batch_size, change_data=change_data
    )
    return _train_and_evaluate(config, workdir, accepted, stack)


def _train_and_evaluate(
  config: ml_collections.ConfigDict,
  workdir: str,
  accepted: dict[str, bool],
  stack: contextlib.ExitStack,
) -> dict[str, float | None]:
  """Returns the final metrics of a run that holds its folder alone."""
  # --- Data
  train_records = open_data(config, config.dataset.train_split)
  eval_records = open_data(config, config.dataset.eval_split)

  # --- Method, model, optimizer, mapped step
  method = build_method(config, axis_name=parallel.AXIS_NAME)
  check_things(method, train_records)
  check_stuff(method, train_records)
  variables = init_variables(
    method.network, image_size=config.transforms.image_size, seed=config.seed
  )
  peak = _peak(config)
  optimizer, learning_rate = build_optimizer(config, variables["params"], peak)
  train_step = make_train_step(
    method,
    optimizer,
    learning_rate,
    accumulate=config.optimizer.accumulate,
    ema_decay=config.optimizer.ema_decay,
    axis_name=parallel.AXIS_NAME,
    seed=config.seed,
  )

  # --- State. In this order: resume > init_from > pretrained > random.
  writer = CheckpointWriter(
    workdir,
    config=config,
    class_names=train_records.class_names,
    category_ids=train_records.category_ids,
    data=describe_data(train_records),
  )
  stack.callback(writer.close)
  newest = writer.latest_step()
  _check_start(config, workdir, train_records, eval_records, newest)
  origin = []
  if newest is None:
    variables, origin, writer.fresh = load_initial(config, variables)
  state = create_train_state(
    variables, optimizer, use_ema=config.optimizer.ema_decay is not None
  )
  if newest is not None:
    state = writer.restore(state, **accepted)
  step = int(state.step)
  log = RunLog(workdir, first_step=step, is_writer=jax.process_index() == 0)
  stack.callback(log.close)
  describe(log, config, train_records, eval_records, variables, peak)
  start = f"resuming from step {step}" if step else "starting at step 0"
  for line in (start, *origin):
    log.message(line)
  state = parallel.replicate(state)
  del variables

  # --- Loop, final evaluation
  run = Run(config, writer, log, eval_records)
  batches = iterate_batches(config, train_records, step)
  stack.callback(batches.close)
  with StopRequest() as stop:
    state = run.take_steps(state, train_step, batches, stop)
    return run.finish(state, stop)


def _peak(config: ml_collections.ConfigDict) -> float:
  """Returns the peak learning rate, scaled by the linear rule."""
  return scale_learning_rate(
    config.optimizer.learning_rate,
    batch_size=config.training.batch_size,
    reference_batch_size=config.optimizer.reference_batch_size,
  )


def _check_start(
  config: ml_collections.ConfigDict,
  workdir: str,
  train_records: Records,
  eval_records: Records,
  newest: int | None,
) -> None:
  """Raises if processes differ or the folder contains converted weights."""
  parallel.check_agreement(
    {
      **flatten(config.to_dict()),
      "images to train on": len(train_records),
      "images to evaluate": len(eval_records),
      "newest checkpoint": newest,
      **describe_data(train_records),
    }
  )
  if newest == 0:  # saved by `convert`, never by a run
    raise UserError(
      f"--workdir={workdir} contains converted weights; start from them with "
      f"{shlex.quote(f'--config.training.init_from={workdir}')} and another "
      "--workdir"
    )
