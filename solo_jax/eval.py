r"""Evaluates a checkpoint: COCO mask AP on a split of its dataset.

python -m solo_jax.eval --checkpoint=workdirs/shapes --out=results.json

The configuration, class names and category ids come from the checkpoint. The
last line printed is one JSON object with the metrics.
"""

import json

import rich.progress
import rich.table
from absl import app, flags, logging
from rich.console import Console

from solo_jax import command
from solo_jax.data.records import open_records
from solo_jax.evaluation.coco_metrics import Metrics
from solo_jax.training import checkpoints
from solo_jax.training.evaluate import check_classes, evaluate_records
from solo_jax.training.setup import build_predictor

FLAGS = flags.FLAGS


def evaluate_checkpoint(
  path: str,
  *,
  data_dir: str | None = None,
  split: str | None = None,
  out: str | None = None,
) -> Metrics:
  """Evaluates a checkpoint and prints the progress.

  Args:
    path: Folder of a run or of one checkpoint.
    data_dir: Prepared datasets; None: where the training had them.
    split: Split to evaluate; None: the config's `eval_split`.
    out: File for the COCO results; None: not written.

  Returns:
    The metrics.

  Raises:
    FileNotFoundError: If the checkpoint or the records are missing.
    ValueError: If the checkpoint is damaged or has other classes than the
      data.
  """
  checkpoint = checkpoints.load(path)
  config = checkpoint.config
  records = open_records(
    data_dir or config.dataset.data_dir,
    config.dataset.name,
    split or config.dataset.eval_split,
  )
  check_classes(
    records,
    class_names=checkpoint.class_names,
    category_ids=checkpoint.category_ids,
  )
  predictor = build_predictor(
    config, checkpoint.variables, batch_size=config.evaluation.batch_size
  )
  console = Console(stderr=True, markup=False, highlight=False)
  console.print(
    f"step {checkpoint.step} of {config.method}, {len(records)} images of "
    f"{config.dataset.name} {records.split}"
  )
  with _progress(console) as progress:
    task = progress.add_task("evaluating", total=len(records))
    metrics, results = evaluate_records(
      predictor,
      records,
      max_detections=config.evaluation.max_detections,
      on_image=lambda: progress.advance(task),
    )
  console.print(
    f"{len(results)} detections, {predictor.num_compiled} padded shapes "
    f"compiled, {predictor.num_dropped} candidates beyond the capacity"
  )
  if out:
    with open(out, "w") as file:
      json.dump(results, file)
  return metrics


def make_table(metrics: Metrics) -> rich.table.Table:
  """Lays the metrics out for a terminal.

  Args:
    metrics: Of one evaluation.

  Returns:
    A table: the metrics of all classes together, then AP and AP50 by class.
  """
  table = rich.table.Table(box=None, pad_edge=False)
  table.add_column("metric")
  table.add_column("AP", justify="right")
  table.add_column("AP50", justify="right")
  all_classes = {
    "mask, IoU 0.50:0.95": (metrics.mask_AP, metrics.mask_AP50),
    "mask, IoU 0.75": (metrics.mask_AP75, None),
    "mask, small": (metrics.mask_AP_S, None),
    "mask, medium": (metrics.mask_AP_M, None),
    "mask, large": (metrics.mask_AP_L, None),
    "mask, average recall": (metrics.mask_AR, None),
    "box of the mask": (metrics.box_AP, None),
  }
  for name, (value, value50) in all_classes.items():
    table.add_row(
      name, _percent(value), "" if value50 is None else _percent(value50)
    )
  table.add_section()
  for name, value in metrics.class_mask_AP.items():
    table.add_row(
      name, _percent(value), _percent(metrics.class_mask_AP50[name])
    )
  return table


def _percent(value: float | None) -> str:
  """One decimal of a percentage, a dash where there was nothing to find."""
  return "-" if value is None else f"{100 * value:.1f}"


class _SpeedColumn(rich.progress.ProgressColumn):
  """Images a second since the start, compiling included."""

  def render(self, task: rich.progress.Task) -> str:
    """Returns the text; empty before the first image."""
    if not task.completed or not task.elapsed:
      return ""
    return f"{task.completed / task.elapsed:.1f} images/s"


def _progress(console: Console) -> rich.progress.Progress:
  return rich.progress.Progress(
    rich.progress.TextColumn("{task.description}"),
    rich.progress.BarColumn(),
    rich.progress.MofNCompleteColumn(),
    _SpeedColumn(),
    rich.progress.TimeRemainingColumn(),
    console=console,
  )


def define_flags() -> None:
  """Defines the flags: when run, so that commands can be imported together."""
  flags.DEFINE_string(
    "checkpoint",
    None,
    "Folder of a run (newest checkpoint) or of a checkpoint.",
  )
  flags.DEFINE_string(
    "data_dir", None, "Prepared datasets; the default is that of the training."
  )
  flags.DEFINE_string(
    "split", None, "Split to evaluate; the default is the config's eval_split."
  )
  flags.DEFINE_string(
    "out", None, "Write the detections here, as COCO results JSON."
  )
  flags.mark_flags_as_required(["checkpoint"])


def main(argv: list[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.ERROR)  # Orbax and TFDS tell every step
  metrics = evaluate_checkpoint(
    FLAGS.checkpoint,
    data_dir=FLAGS.data_dir,
    split=FLAGS.split,
    out=FLAGS.out,
  )
  Console(markup=False, highlight=False).print(make_table(metrics))
  print(json.dumps(metrics.scalars()))


if __name__ == "__main__":
  define_flags()
  command.run(main)
