"""The training run from config to final metrics.

`train_and_evaluate` reads top to bottom as the list of what happens.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

import jax
import ml_collections

from solo_jax import parallel, types, visualization
from solo_jax.building import build_method, build_predictor, check_config
from solo_jax.checkpoints.compatibility import flatten
from solo_jax.checkpoints.state import (
  TrainState,
  create_train_state,
  evaluation_variables,
  init_variables,
)
from solo_jax.checkpoints.store import CheckpointWriter
from solo_jax.data import transforms
from solo_jax.data.records import Records, read_sample
from solo_jax.inference.predictor import Predictor
from solo_jax.training.evaluate import count_dropped, evaluate_records
from solo_jax.training.logging import Progress, RunLog
from solo_jax.training.optimizer import scale_learning_rate
from solo_jax.training.pictures import MAX_PICTURE_PIXELS, truth_of
from solo_jax.training.setup import (
  build_optimizer,
  describe,
  iterate_batches,
  load_initial,
  open_data,
)
from solo_jax.training.step import check_finite, make_train_step
from solo_jax.training.stopping import StopRequest
from solo_jax.training.workdir import claim


def train_and_evaluate(
  config: ml_collections.ConfigDict,
  workdir: str,
  *,
  change_batch_size: bool = False,
) -> dict[str, float | None]:
  """Trains a method and evaluates it; goes on from the last checkpoint.

  Args:
    config: A whole configuration, as the files in configs/ make it.
    workdir: Folder of the run: checkpoints/, metrics.jsonl, tensorboard/ and
      pictures/. Calling again with the same config and folder resumes, on any
      number of devices and processes.
    change_batch_size: Whether to go on from a checkpoint of another
      `training.batch_size`.

  Returns:
    Metrics of the final evaluation by name, as `Metrics.scalars`.

  Raises:
    UserError: On a config that is wrong in itself.
    ValueError: On a config that does not fit the data or the devices, or
      differs from the one of the checkpoints in `workdir` or of another
      process; if `workdir` holds converted weights.
    FileNotFoundError: If the records are missing.
    FloatingPointError: After too many non-finite steps in a row.
    RuntimeError: If another run uses `workdir`, or it cannot be written.
    Stopped: After SIGTERM or Ctrl-C, when the state is saved.
  """
  # --- Config against devices
  check_config(config)
  parallel.check_batch_size(
    config.training.batch_size, config.optimizer.accumulate
  )
  with contextlib.ExitStack() as stack:
    stack.enter_context(claim(workdir))
    return _train_and_evaluate(config, workdir, change_batch_size, stack)


# Long, as it is the list of all that a run consists of.
def _train_and_evaluate(
  config: ml_collections.ConfigDict,
  workdir: str,
  change_batch_size: bool,
  stack: contextlib.ExitStack,
) -> dict[str, float | None]:
  """Does it in a folder that is this run's alone; the stack closes all."""
  # --- Data
  train_records = open_data(config, config.dataset.train_split)
  eval_records = open_data(config, config.dataset.eval_split)

  # --- Method, model, optimizer
  method = build_method(config, axis_name=parallel.AXIS_NAME)
  variables = init_variables(
    method.network, image_size=config.transforms.image_size, seed=config.seed
  )
  peak = scale_learning_rate(
    config.optimizer.learning_rate,
    batch_size=config.training.batch_size,
    reference_batch_size=config.optimizer.reference_batch_size,
  )
  optimizer, learning_rate = build_optimizer(config, variables["params"], peak)

  # --- State. In this order: resume > init_from > pretrained > random.
  writer = CheckpointWriter(
    workdir,
    config=config,
    class_names=train_records.class_names,
    category_ids=train_records.category_ids,
  )
  stack.callback(writer.close)
  newest = writer.latest_step()
  parallel.check_agreement(
    {
      **flatten(config.to_dict()),
      "images to train on": len(train_records),
      "images to evaluate": len(eval_records),
      "newest checkpoint": newest,
    }
  )
  if newest == 0:  # a run saves none, `convert` does
    raise ValueError(
      f"--workdir={workdir} holds converted weights; start from them with "
      f"--config.training.init_from={workdir} and another --workdir"
    )
  origin = []
  if newest is None:
    variables, origin = load_initial(config, variables)
  state = create_train_state(
    variables, optimizer, use_ema=config.optimizer.ema_decay is not None
  )
  if newest is not None:
    state = writer.restore(state, change_batch_size=change_batch_size)
  first_step = int(state.step)
  log = RunLog(
    workdir, first_step=first_step, is_writer=jax.process_index() == 0
  )
  stack.callback(log.close)
  describe(log, config, train_records, eval_records, variables, peak)
  log.message(
    f"resuming from step {first_step}" if first_step else "starting at step 0"
  )
  for line in origin:
    log.message(line)
  state = parallel.replicate(state)
  del variables

  # --- Mapped step
  train_step = make_train_step(
    method,
    optimizer,
    learning_rate,
    accumulate=config.optimizer.accumulate,
    ema_decay=config.optimizer.ema_decay,
    axis_name=parallel.AXIS_NAME,
    seed=config.seed,
  )

  # --- Loop, final evaluation
  run = Run(config, writer, log, eval_records)
  batches = iterate_batches(config, train_records, first_step)
  stack.callback(batches.close)
  with StopRequest() as stop:
    state = run.take_steps(state, train_step, batches, stop)
    return run.finish(state, stop)


class Run:
  """The steps of one run and what is done between them."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    writer: CheckpointWriter,
    log: RunLog,
    eval_records: Records,
  ):
    """Prepares a run.

    Args:
      config: The whole configuration.
      writer: Where checkpoints go.
      log: Where everything else goes.
      eval_records: Images to evaluate and draw.
    """
    self._config = config
    self._writer = writer
    self._log = log
    self._eval_records = eval_records
    self._predictor = None

  # The one loop, in one piece: what overlaps with what is its point.
  def take_steps(
    self,
    state: TrainState,
    train_step: Callable,
    batches: Iterator[types.Batch],
    stop: StopRequest,
  ) -> TrainState:
    """Takes the steps that are left; logs, draws, evaluates and saves.

    The host never waits for the step just started: while it runs, the next
    batch is read and sent, and the metrics of the steps before are logged.

    Args:
      state: Replicated state; donated.
      train_step: The step of one device.
      batches: Batches on the devices, from the state's step on.
      stop: Asked after every step.

    Returns:
      The state after the last step; not saved yet.
    """
    training = self._config.training
    step, num_steps = int(parallel.fetch(state.step)), training.num_steps
    if step >= num_steps:
      return state
    self._log.section("Training")
    counter = parallel.CompileCounter(
      train_step,
      lambda: self._log.message(
        "compiling the training step for a size of input; on a CPU this takes "
        "a minute or more"
      ),
    )
    mapped_step = parallel.map_step(counter)
    progress = Progress(
      first_step=step, num_steps=num_steps, batch_size=training.batch_size
    )
    is_stopping = parallel.LaggedFlag()
    pending = []  # metrics since the last line, still on the device

    def report(last_step: int, num_running: int) -> None:
      """Logs the pending steps but for those that are still running."""
      num_done = len(pending) - num_running
      rows = parallel.fetch(pending[:num_done])
      del pending[:num_done]
      row, line = progress.summarize(last_step, rows, counter.num_compiled)
      self._log.metrics(last_step, row, line)
      check_finite(rows, last_step, training.max_nonfinite_steps)

    if (
      step
      and is_due(step, training.eval_every_steps)
      and self._writer.metrics(step) is None
    ):  # ended with an earlier run; the state is saved
      self._evaluate_saved(state, step, stop)
      progress.start_clock(step)
    batch = next(batches)
    while step < num_steps:
      num_compiled, start = counter.num_compiled, time.perf_counter()
      with jax.transfer_guard("disallow"):
        state, metrics = mapped_step(state, batch)
      step += 1
      if counter.num_compiled > num_compiled:
        seconds = time.perf_counter() - start
        self._log.message(f"compiled in {seconds:.1f} s")
        progress.start_clock(step)
      pending.append(metrics)
      if step < num_steps:
        start = time.perf_counter()
        batch = next(batches)
        if metrics["loss"].is_ready():  # the device ran out of work
          progress.add_data_wait(time.perf_counter() - start)
      if len(pending) > 1:  # at most two steps under way
        jax.block_until_ready(pending[-2]["loss"])
        if is_due(step - 1, training.log_every_steps):
          report(step - 1, num_running=1)

      self._report_saved()
      stopping = is_stopping(stop.signal_number is not None)
      is_end = stopping or step == num_steps
      is_break = not is_end and self._is_anything_due(step)
      if is_end or is_break:  # what a checkpoint has gone beyond is logged
        report(step, num_running=0)
      if stopping:
        self._log.message("stopped by a signal")
        self._save(state)
        self._report_saved(wait=True)
        raise stop.stopped()
      if is_break:
        self._between_steps(state, step, stop)
        progress.start_clock(step)
    return state

  def finish(
    self, state: TrainState, stop: StopRequest
  ) -> dict[str, float | None]:
    """Saves and evaluates the final state, unless an earlier call has.

    Args:
      state: Replicated state after the last step.
      stop: A signal ends the evaluation of one process alone at once; several
        finish it.

    Returns:
      The metrics.
    """
    step = int(parallel.fetch(state.step))
    self._log.section("Final evaluation")
    metrics = self._writer.metrics(step)
    if metrics is not None:
      self._log.message(f"step {step} is evaluated already")
      return metrics
    if self._config.training.picture_every_steps:
      self._draw_pictures(state, step)
    return self._save_and_evaluate(state, step, stop)

  def _is_anything_due(self, step: int) -> bool:
    """Tells whether `_between_steps` has anything to do."""
    training = self._config.training
    return any(
      is_due(step, every)
      for every in (
        training.picture_every_steps,
        training.eval_every_steps,
        training.checkpoint_every_steps,
      )
    )

  def _between_steps(
    self, state: TrainState, step: int, stop: StopRequest
  ) -> None:
    """Does what is due after a step."""
    training = self._config.training
    if is_due(step, training.picture_every_steps):
      self._draw_pictures(state, step)
    if is_due(step, training.eval_every_steps):
      self._save_and_evaluate(state, step, stop)
    elif is_due(step, training.checkpoint_every_steps):
      self._save(state)

  def _save(self, state: TrainState) -> None:
    """Starts saving a state, when the one before is on disk."""
    self._report_saved(wait=True)
    self._log.flush()
    self._writer.save(state)

  def _report_saved(self, *, wait: bool = False) -> None:
    """Says that a checkpoint is saved once nothing can undo it."""
    step = self._writer.finished(wait=wait)
    if step is not None:
      self._log.message(f"step {step} is saved")

  def _save_and_evaluate(
    self, state: TrainState, step: int, stop: StopRequest
  ) -> dict[str, float | None]:
    """Saves a state and evaluates it meanwhile."""
    self._save(state)
    return self._evaluate_saved(state, step, stop)

  def _evaluate_saved(
    self, state: TrainState, step: int, stop: StopRequest
  ) -> dict[str, float | None]:
    """Evaluates a state that is saved, as this may fail or be ended."""
    try:
      with stop.immediate():
        metrics = self._evaluate(state)
    finally:
      self._report_saved(wait=True)
    self._writer.add_metrics(step, metrics)
    row = {f"val/{name}": value for name, value in metrics.items()}
    line = "  ".join(
      f"{name} {'-' if value is None else format(value, '.4f')}"
      for name, value in metrics.items()
    )
    self._log.metrics(step, row, f"evaluated step {step}  {line}")
    return metrics

  def _evaluate(self, state: TrainState) -> dict[str, float | None]:
    evaluation = self._config.evaluation
    predictor = self._update_predictor(state)
    metrics, _ = evaluate_records(
      predictor,
      self._eval_records,
      max_detections=evaluation.max_detections,
      on_image=self._report_saved,
    )
    predictor.variables = {}
    num_dropped = count_dropped(predictor)
    self._log.message(f"evaluated so far: {predictor.summary(num_dropped)}")
    return metrics.scalars()

  def _draw_pictures(self, state: TrainState, step: int) -> None:
    """Draws predictions beside ground truth."""
    if jax.process_index():
      return  # process 0 writes them
    records = self._eval_records
    predictor = self._update_predictor(state)
    num_pictures = min(self._config.training.num_pictures, len(records))
    for sample in (read_sample(records[i]) for i in range(num_pictures)):
      image = transforms.to_uint8(sample.image)
      picture = visualization.draw_comparison(
        image,
        predictor(sample.image)
        .above(PICTURE_SCORE)
        .to_dense(MAX_PICTURE_PIXELS),
        truth_of(sample),
        records.class_names,
      )
      self._log.picture(step, str(sample.image_id), picture)
      if predictor.has_views:
        views = visualization.draw_views(image, predictor.views(sample.image))
        self._log.picture(step, f"{sample.image_id}_views", views)
    predictor.variables = {}

  def _update_predictor(self, state: TrainState) -> Predictor:
    """Gives the predictor the state's variables; compiles on first use.

    They are taken from it after use: the devices have room for one copy of the
    parameters less while they train.
    """
    variables = parallel.fetch(evaluation_variables(state))
    if self._predictor is None:
      self._predictor = build_predictor(
        self._config,
        variables,
        batch_size=self._config.evaluation.batch_size,
        devices=jax.local_devices(),
      )
    else:
      self._predictor.variables = variables
    return self._predictor


# Detections of a lower score are scored, but not drawn.
PICTURE_SCORE = 0.3


def is_due(step: int, every: int) -> bool:
  """Tells whether something done every so many steps (0: never) is due."""
  return every > 0 and step % every == 0
