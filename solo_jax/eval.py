r"""Evaluates a checkpoint: COCO mask AP on a split of its dataset.

python -m solo_jax.eval --checkpoint=workdirs/shapes --out=results.json
python -m solo_jax.eval --checkpoint=workdirs/shapes --report=reports/shapes

--report writes report.html, a page of scores and mistakes that works offline:
see docs/evaluation.md. --metrics=boundary,microscopy adds boundary AP and the
metrics of label images (evaluation/boundary.py, evaluation/microscopy.py).

The configuration, class names and category ids come from the checkpoint. To try
other thresholds and capacities, pass for example

    --set=decode.score_threshold=0.05,evaluation.max_detections=300

The images are spread over all local devices, and over several processes if they
are started with --distributed or --coordinator as for solo_jax.train; process 0
reports.

--flip and --scale are test-time augmentation, see solo_jax.predict.

Compiled programs are kept for the next run, see inference/compilation_cache.py.
If the output is not a terminal, its last line is one JSON object with the
metrics.
"""

import json
import sys

import jax
import rich.table
from absl import flags

from solo_jax import cli, terminal
from solo_jax.evaluation import judging
from solo_jax.evaluation.coco_metrics import Metrics
from solo_jax.inference.compilation_cache import use_compilation_cache
from solo_jax.scoring.checkpoint import (
  SECTIONS,
  Request,
  evaluate_checkpoint,
)
from solo_jax.terminal import Console

# Row titles for the values of `Metrics.box_source`.
BOX_NAMES = {"mask": "box of the mask", "predicted": "predicted box"}

# Counts and differences of counts are not percentages.
COUNTS = {"abs_DiC": "{:.2f}".format, "num_PQ_classes": "{}".format}

FLAGS = flags.FLAGS


def make_table(metrics: Metrics) -> rich.table.Table:
  """Returns the metrics as a table for the terminal.

  Args:
    metrics: Metrics of one evaluation.

  Returns:
    A table: the metrics of all classes together, then AP and AP50 by class.
  """
  table = terminal.make_table("metric", "AP", "AP50")
  all_classes = {
    "mask, IoU 0.50:0.95": (metrics.mask_AP, metrics.mask_AP50),
    "mask, IoU 0.75": (metrics.mask_AP75, None),
    "mask, small": (metrics.mask_AP_S, None),
    "mask, medium": (metrics.mask_AP_M, None),
    "mask, large": (metrics.mask_AP_L, None),
    "mask, average recall": (metrics.mask_AR, None),
    BOX_NAMES[metrics.box_source]: (metrics.box_AP, None),
  } | {name: (value, None) for name, value in metrics.extra.items()}
  for name, (value, value50) in all_classes.items():
    text = COUNTS.get(name, _percent)(value)
    table.add_row(name, text, "" if value50 is None else _percent(value50))
  table.add_section()
  for name, value in metrics.class_mask_AP.items():
    table.add_row(
      name, _percent(value), _percent(metrics.class_mask_AP50[name])
    )
  return table


def _percent(value: float | None) -> str:
  """Returns a percentage with one decimal, a dash for an undefined value."""
  return "-" if value is None else f"{100 * value:.1f}"


def define_flags() -> None:
  """Defines the flags, not on import, so that commands can share a process."""
  cli.define_checkpoint_flag()
  flags.DEFINE_string(
    "data_dir",
    "data",
    "Folder of the prepared datasets. The folder that the training used is "
    "not opened automatically.",
  )
  flags.DEFINE_string(
    "split", None, "Split to evaluate. Default: the config's eval_split."
  )
  flags.DEFINE_multi_string(
    "set",
    [],
    "Override config fields: section.field=value,... of the "
    f"sections {' and '.join(SECTIONS)}. May be repeated.",
  )
  flags.DEFINE_string(
    "out", None, "File to write the detections to, as COCO results JSON."
  )
  flags.DEFINE_string(
    "report", None, "Folder for report.html, a page of scores and mistakes."
  )
  flags.DEFINE_list(
    "metrics",
    [],
    f"Extra metrics to compute: {','.join(judging.METRICS)}.",
  )
  cli.define_score_flag(
    "Leave detections of a lower score out of the report's pictures, its "
    "confusion matrix and the metrics of label images."
  )
  cli.define_process_flags()
  cli.define_augmentation_flags()


def main() -> None:
  """Runs the command."""
  use_compilation_cache()
  is_writer = jax.process_index() == 0
  metrics = evaluate_checkpoint(
    Request(
      path=FLAGS.checkpoint,
      data_dir=FLAGS.data_dir,
      split=FLAGS.split,
      overrides=",".join(FLAGS.set) or None,
      out=FLAGS.out,
      report_folder=FLAGS.report,
      more_metrics=FLAGS.metrics,
      score_threshold=FLAGS.score_threshold,
      scales=FLAGS.scale,
      flip=FLAGS.flip,
      command=cli.command_line(sys.argv),
    ),
    cli.make_progress(
      Console(stderr=True, markup=False, highlight=False, quiet=not is_writer)
    ),
  )
  if is_writer:
    Console(markup=False, highlight=False).print(make_table(metrics))
    if not sys.stdout.isatty():  # people read the table
      print(json.dumps(metrics.scalars()))


if __name__ == "__main__":
  define_flags()
  cli.run(main)
