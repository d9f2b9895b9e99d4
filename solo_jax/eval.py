r"""Evaluates a checkpoint: COCO mask AP on a split of its dataset.

python -m solo_jax.eval --checkpoint=workdirs/shapes --out=results.json

The configuration, class names and category ids come from the checkpoint; other
thresholds and capacities are tried with, for example,

    --set=decode.score_threshold=0.05,evaluation.max_detections=300

Compiled programs are kept for the next run, see inference/compilation_cache.py.
The last line printed is one JSON object with the metrics.
"""

import json
import pathlib
import time

import ml_collections
import rich.progress
import rich.table
from absl import app, flags, logging
from rich.console import Console

from solo_jax import command
from solo_jax.config import parse_arg, validate
from solo_jax.data.records import open_records
from solo_jax.evaluation.coco_metrics import Metrics
from solo_jax.inference.compilation_cache import use_compilation_cache
from solo_jax.training import checkpoints
from solo_jax.training.evaluate import check_classes, evaluate_records
from solo_jax.training.setup import build_predictor

# Sections of the config that an evaluation may change.
SECTIONS = ("decode", "evaluation")

FLAGS = flags.FLAGS


def evaluate_checkpoint(
  path: str,
  *,
  data_dir: str | None = None,
  split: str | None = None,
  overrides: str | None = None,
  out: str | None = None,
) -> Metrics:
  """Evaluates a checkpoint and prints the progress.

  Args:
    path: Folder of a run or of one checkpoint.
    data_dir: Prepared datasets; None: where the training had them.
    split: Split to evaluate; None: the config's `eval_split`.
    overrides: Changes of the config, see `override`.
    out: File for the COCO results; None: not written.

  Returns:
    The metrics.

  Raises:
    FileNotFoundError: If the checkpoint, the records or the folder of `out`
      are missing.
    ValueError: If the checkpoint is damaged or has other classes than the
      data, or an override is wrong.
  """
  if out and not pathlib.Path(out).absolute().parent.is_dir():
    # Better now than after the evaluation.
    raise FileNotFoundError(f"--out={out}: no such folder; make it first")
  checkpoint = checkpoints.load(path)
  config = checkpoint.config
  if overrides:
    config = override(config, overrides)
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
  start = time.perf_counter()
  with _progress(console) as progress:
    task = progress.add_task("evaluating", total=len(records))
    metrics, results = evaluate_records(
      predictor,
      records,
      max_detections=config.evaluation.max_detections,
      on_image=lambda: progress.advance(task),
    )
  console.print(
    f"{len(results)} detections in {time.perf_counter() - start:.1f} s, "
    f"{predictor.summary()}",
    soft_wrap=True,
  )
  if out:
    with open(out, "w") as file:
      json.dump(results, file)
  return metrics


def override(
  config: ml_collections.ConfigDict, text: str
) -> ml_collections.ConfigDict:
  """Changes fields of the sections that an evaluation may change.

  Args:
    config: The checkpoint's.
    text: 'decode.score_threshold=0.05,evaluation.max_detections=300'.

  Returns:
    A changed copy.

  Raises:
    ValueError: On an unknown field, or a value of a wrong type or out of range.
  """
  known = {
    f"{section}.{field}": value
    for section in SECTIONS
    for field, value in config[section].items()
  }
  try:
    values = vars(parse_arg(text, **known))
  except ValueError as error:
    raise ValueError(f"--set: {error}") from error
  for key, value in values.items():
    if key.endswith("_threshold") and not 0 <= value <= 1:
      raise ValueError(f"--set: {key} is {value}; it must be from 0 to 1")
  config = config.copy_and_resolve_references().unlock()
  config.update_from_flattened_dict(values)
  validate(config)
  return config.lock()


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
    "set",
    None,
    "Changes to the checkpoint's config, section.field=value,... of the "
    f"sections {' and '.join(SECTIONS)}.",
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
  use_compilation_cache()
  metrics = evaluate_checkpoint(
    FLAGS.checkpoint,
    data_dir=FLAGS.data_dir,
    split=FLAGS.split,
    overrides=FLAGS.set,
    out=FLAGS.out,
  )
  Console(markup=False, highlight=False).print(make_table(metrics))
  print(json.dumps(metrics.scalars()))


if __name__ == "__main__":
  define_flags()
  command.run(main)
