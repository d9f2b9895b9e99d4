"""The steps of a training run, and the work between them."""

import time
from collections.abc import Callable, Iterator

import jax
import ml_collections

from solo_jax import parallel, types, visualization
from solo_jax.building import build_predictor
from solo_jax.checkpoints.state import TrainState, evaluation_variables
from solo_jax.checkpoints.store import CheckpointWriter
from solo_jax.data import transforms
from solo_jax.data.records import Records, read_sample
from solo_jax.inference.predictor import Predictor
from solo_jax.media.pictures import MAX_PICTURE_PIXELS, truth_of
from solo_jax.scoring.records import count_dropped, evaluate_records
from solo_jax.training.log_lines import describe_metrics
from solo_jax.training.logging import Progress, RunLog
from solo_jax.training.step import check_finite
from solo_jax.training.stopping import StopRequest

# Detections of a lower score are evaluated, but not drawn.
PICTURE_SCORE = 0.3


class Run:
  """Runs the training steps and the work between them."""

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
      writer: Writer of checkpoints.
      log: Writer of everything else.
      eval_records: Images to evaluate and draw.
    """
    self._config = config
    self._writer = writer
    self._log = log
    self._eval_records = eval_records
    self._predictor = None

  # The one loop, kept in one piece to show what overlaps.
  def take_steps(
    self,
    state: TrainState,
    train_step: Callable,
    batches: Iterator[types.Batch],
    stop: StopRequest,
  ) -> TrainState:
    """Returns the state after the remaining steps; logs, evaluates and saves.

    The host never waits for the step just started: while it runs, the next
    batch is read and sent, and the metrics of earlier steps are logged.

    Args:
      state: Replicated state; donated.
      train_step: The step of one device.
      batches: Batches on the devices, from the state's step on.
      stop: Checked after every step.

    Returns:
      The state after the last step; not saved yet.
    """
    training = self._config.training
    step, num_steps = int(parallel.fetch(state.step)), training.num_steps
    if step >= num_steps:
      return state
    self._log.section("Training")
    counter = self._count_compiles(train_step)
    mapped_step = parallel.map_step(counter)
    progress = Progress(
      first_step=step, num_steps=num_steps, batch_size=training.batch_size
    )
    is_stopping = parallel.LaggedFlag()
    pending = []  # metrics since the last line, still on the device

    def report(last_step: int, num_running: int) -> None:
      """Logs the pending steps, except those that are still running."""
      num_done = len(pending) - num_running
      rows = parallel.fetch(pending[:num_done])
      del pending[:num_done]
      self._report(last_step, rows, progress, counter.num_compiled)

    if self._was_cut_off(step):
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
      if len(pending) > 1:  # at most two steps in flight
        jax.block_until_ready(pending[-2]["loss"])
        if is_due(step - 1, training.log_every_steps):
          report(step - 1, num_running=1)

      self._report_saved()
      stopping = is_stopping(stop.signal_number is not None)
      is_end = stopping or step == num_steps
      is_break = not is_end and self._is_anything_due(step)
      if is_end or is_break:  # log the steps before a checkpoint
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

  def _count_compiles(self, train_step: Callable) -> parallel.CompileCounter:
    """Returns the step, wrapped so that compilations are counted and logged."""
    return parallel.CompileCounter(
      train_step,
      lambda: self._log.message(
        "compiling the training step for a size of input; on a CPU this takes "
        "a minute or more"
      ),
    )

  def _report(
    self,
    last_step: int,
    rows: list[dict[str, float]],
    progress: Progress,
    num_compiled: int,
  ) -> None:
    """Logs the metrics of finished steps; stops a run of non-finite steps."""
    row, line = progress.summarize(last_step, rows, num_compiled)
    self._log.metrics(last_step, row, line)
    check_finite(rows, last_step, self._config.training.max_nonfinite_steps)

  def finish(
    self, state: TrainState, stop: StopRequest
  ) -> dict[str, float | None]:
    """Saves and evaluates the final state, unless an earlier call has done so.

    Args:
      state: Replicated state after the last step.
      stop: A signal stops the evaluation of a single process at once; several
        processes finish it.

    Returns:
      The metrics.
    """
    step = int(parallel.fetch(state.step))
    self._log.section("Final evaluation")
    metrics = self._writer.metrics(step)
    if metrics is not None:
      self._log.message(f"step {step} has already been evaluated")
      return metrics
    if self._config.training.picture_every_steps:
      self._draw_pictures(state, step)
    return self._save_and_evaluate(state, step, stop)

  def _was_cut_off(self, step: int) -> bool:
    """Returns whether an earlier run was stopped evaluating this state."""
    return (
      step > 0
      and is_due(step, self._config.training.eval_every_steps)
      and self._writer.metrics(step) is None
    )

  def _is_anything_due(self, step: int) -> bool:
    """Returns whether `_between_steps` has anything to do."""
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
    """Does the work that is due after a step."""
    training = self._config.training
    if is_due(step, training.picture_every_steps):
      self._draw_pictures(state, step)
    if is_due(step, training.eval_every_steps):
      self._save_and_evaluate(state, step, stop)
    elif is_due(step, training.checkpoint_every_steps):
      self._save(state)

  def _save(self, state: TrainState) -> None:
    """Starts saving a state once the previous one is on disk."""
    self._report_saved(wait=True)
    self._log.flush()
    self._writer.save(state)

  def _report_saved(self, *, wait: bool = False) -> None:
    """Logs that a checkpoint is saved once it is complete."""
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
    """Returns the metrics of a state that is already saved."""
    try:
      with stop.immediate():
        metrics = self._evaluate(state)
    finally:
      self._report_saved(wait=True)
    self._writer.add_metrics(step, metrics)
    row = {f"val/{name}": value for name, value in metrics.items()}
    self._log.metrics(step, row, describe_metrics(step, metrics))
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
    """Draws predictions next to ground truth."""
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
    """Returns the predictor with the state's variables; compiles on first use.

    They are removed after use, to free one copy of the parameters on the
    devices during training.
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


def is_due(step: int, every: int) -> bool:
  """Returns whether something done every n steps (0: never) is due."""
  return every > 0 and step % every == 0
