r"""Evaluates a checkpoint: COCO mask AP on a split of its dataset.

python -m solo_jax.eval --checkpoint=workdirs/shapes --out=results.json
python -m solo_jax.eval --checkpoint=workdirs/shapes --report=reports/shapes

--report writes one page, report.html, that shows what is good and what is wrong
and needs no network: see docs/evaluation.md. --metrics=boundary,microscopy adds
boundary AP and the metrics of label images (evaluation/boundary.py,
evaluation/microscopy.py).

The configuration, class names and category ids come from the checkpoint; other
thresholds and capacities are tried with, for example,

    --set=decode.score_threshold=0.05,evaluation.max_detections=300

All local devices share the images. So do several processes, started with the
flags --distributed or --coordinator as of solo_jax.train; process 0 reports.

--flip and --scale are test-time augmentation, see solo_jax.predict.

Compiled programs are kept for the next run, see inference/compilation_cache.py.
The last line printed is one JSON object with the metrics.
"""

import json
import time
from collections.abc import Sequence

import jax
import ml_collections
import rich.progress
import rich.table
from absl import app, flags, logging
from etils import epath
from rich.console import Console

from solo_jax import cli, parallel
from solo_jax.building import build_predictor, check_config
from solo_jax.checkpoints import store
from solo_jax.checkpoints.compatibility import flatten
from solo_jax.config import parse_arg
from solo_jax.data.records import Records, open_records, to_coco
from solo_jax.errors import UserError
from solo_jax.evaluation import judging, report
from solo_jax.evaluation.coco_metrics import Metrics
from solo_jax.inference.compilation_cache import use_compilation_cache
from solo_jax.inference.predictor import Predictor
from solo_jax.progress import make_progress
from solo_jax.training.evaluate import (
  check_classes,
  count_dropped,
  detect_records,
)
from solo_jax.training.pictures import draw_images

# Sections of the config that an evaluation may change.
SECTIONS = ("decode", "evaluation")

FLAGS = flags.FLAGS


# Long by its arguments and by what it says between one stage and the next.
def evaluate_checkpoint(
  path: str,
  *,
  data_dir: str | None = None,
  split: str | None = None,
  overrides: str | None = None,
  out: str | None = None,
  report_folder: str | None = None,
  more_metrics: Sequence[str] = (),
  score_threshold: float = 0.3,
  scales: Sequence[float] = (1.0,),
  flip: bool = False,
) -> Metrics:
  """Evaluates a checkpoint and prints the progress.

  Args:
    path: Folder of a run or of one checkpoint.
    data_dir: Prepared datasets; None: where the training had them.
    split: Split to evaluate; None: the config's `eval_split`.
    overrides: Changes of the config, see `override`.
    out: File for the COCO results; None: not written.
    report_folder: Folder for report.html, made if missing; None: not written.
    more_metrics: Of `judging.METRICS`.
    score_threshold: Of what needs one: metrics of label images and the
      report's confusion matrix and pictures.
    scales: Of the test-time augmentation, see Predictor.
    flip: Of the test-time augmentation, see Predictor.

  Returns:
    The metrics, the same in all processes.

  Raises:
    FileNotFoundError: If the checkpoint, the records or the folder of `out`
      are missing.
    ValueError: If the checkpoint is damaged or has other classes than the
      data, or an override or the name of a metric is wrong.
  """
  _check_arguments(out, more_metrics)
  checkpoint, config, records = _load(path, data_dir, split, overrides)
  parallel.check_agreement(
    {
      **flatten(config.to_dict()),
      "step of the checkpoint": checkpoint.step,
      "images to evaluate": len(records),
      "--scale": tuple(scales),
      "--flip": flip,
    }
  )
  predictor = build_predictor(
    config,
    checkpoint.variables,
    batch_size=config.evaluation.batch_size,
    devices=jax.local_devices(),
    scales=scales,
    flip=flip,
  )
  is_writer = jax.process_index() == 0
  console = Console(
    stderr=True, markup=False, highlight=False, quiet=not is_writer
  )
  console.print(
    f"step {checkpoint.step} of {config.method}, {len(records)} images of "
    f"{config.dataset.name} {records.split}"
  )
  start = time.perf_counter()
  results = _detect(predictor, records, console)
  num_dropped = count_dropped(predictor)
  console.print(f"comparing {len(results)} detections with the truth")
  with predictor.clock("metrics"):
    judged = judging.judge(
      to_coco(records),
      results,
      max_detections=config.evaluation.max_detections,
      more_metrics=more_metrics,
      score_threshold=score_threshold,
    )
  seconds = time.perf_counter() - start
  console.print(
    f"{len(results)} detections in {seconds:.1f} s, "
    f"{predictor.summary(num_dropped)}",
    soft_wrap=True,
  )
  if out and is_writer:
    epath.Path(out).write_text(json.dumps(results))
  if report_folder and is_writer:
    written = write_report(
      report_folder,
      judged,
      records,
      results,
      score_threshold=score_threshold,
      facts={
        "method": config.method,
        "step": f"{checkpoint.step:,}",
        "data": f"{config.dataset.name}, {records.split}",
        "checkpoint": path,
        "settings": overrides or "the checkpoint's",
        "beyond capacity": f"{num_dropped:,} candidates",
        "scales": ", ".join(f"{x:g}" for x in scales)
        + (", each mirrored as well" if flip else ""),
        "padded shapes compiled": f"{predictor.num_compiled}",
        "device": jax.devices()[0].device_kind,
      },
      stages=predictor.clock.seconds,
      total_seconds=seconds,
    )
    console.print(f"report: {written}", soft_wrap=True)
  return judged.metrics


def _check_arguments(out: str | None, more_metrics: Sequence[str]) -> None:
  """Raises now what would fail after the evaluation, in every process."""
  unknown = set(more_metrics) - set(judging.METRICS)
  if unknown:
    raise ValueError(
      f"--metrics: unknown {', '.join(sorted(unknown))}; known: "
      f"{', '.join(judging.METRICS)}"
    )
  is_missing = False
  # Process 0 writes, so the folder need be on its disk alone. A bucket has no
  # folders to make first.
  if jax.process_index() == 0 and out and "://" not in out:
    is_missing = not epath.Path(out).absolute().parent.is_dir()
  if parallel.any_process(is_missing):
    raise FileNotFoundError(f"--out={out}: no such folder; make it first")


def _load(
  path: str, data_dir: str | None, split: str | None, overrides: str | None
) -> tuple[store.Checkpoint, ml_collections.ConfigDict, Records]:
  """Loads a checkpoint, its config with the overrides, and the records."""
  checkpoint = store.load(path)
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
  return checkpoint, config, records


def _detect(
  predictor: Predictor, records: Records, console: Console
) -> list[dict]:
  """Detects in all records and shows the progress of this process's share."""
  share = range(jax.process_index(), len(records), jax.process_count())
  with make_progress(console) as progress:
    task = progress.add_task("evaluating", total=len(share))
    return detect_records(
      predictor, records, on_image=lambda: progress.advance(task)
    )


def write_report(
  folder: str,
  judged: judging.Judged,
  records: Records,
  results: Sequence[dict],
  *,
  score_threshold: float,
  facts: dict[str, str],
  stages: dict[str, float],
  total_seconds: float,
) -> epath.Path:
  """Writes the report of an evaluation.

  Args:
    folder: Where report.html goes; made if missing.
    judged: Of the results.
    records: What was evaluated.
    results: COCO results.
    score_threshold: Of the confusion matrix and the pictures.
    facts: What was evaluated, by name.
    stages: Seconds of each stage.
    total_seconds: Of the evaluation.

  Returns:
    The path of the file.
  """
  data, chosen = report.summarize(
    judged.masks,
    judged.metrics,
    score_threshold=score_threshold,
    overlaps=judged.overlaps,
  )
  image_ids = {image.image_id for kind in chosen.values() for image in kind}
  return report.write(
    folder,
    data,
    title=f"{facts['method']} on {facts['data']}",
    facts=facts,
    stages=stages,
    total_seconds=total_seconds,
    pictures=draw_images(
      records, results, sorted(image_ids), score_threshold=score_threshold
    ),
  )


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
    UserError: On an unknown field, or a value of a wrong type or out of range.
  """
  known = {
    f"{section}.{field}": value
    for section in SECTIONS
    for field, value in config[section].items()
    if not isinstance(value, tuple)  # for which the text has no form
  }
  try:
    values = vars(parse_arg(text, **known))
  except UserError as error:
    raise UserError(f"--set: {error}") from error
  config = config.copy_and_resolve_references().unlock()
  config.update_from_flattened_dict(values)
  check_config(config)
  return config.lock()


# What the table calls the boxes of `Metrics.box_source`.
BOX_NAMES = {"mask": "box of the mask", "predicted": "predicted box"}


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
    BOX_NAMES[metrics.box_source]: (metrics.box_AP, None),
  } | {name: (value, None) for name, value in metrics.extra.items()}
  for name, (value, value50) in all_classes.items():
    # A difference in count is no share.
    text = f"{value:.2f}" if name == "abs_DiC" else _percent(value)
    table.add_row(name, text, "" if value50 is None else _percent(value50))
  table.add_section()
  for name, value in metrics.class_mask_AP.items():
    table.add_row(
      name, _percent(value), _percent(metrics.class_mask_AP50[name])
    )
  return table


def _percent(value: float | None) -> str:
  """One decimal of a percentage, a dash where there was nothing to find."""
  return "-" if value is None else f"{100 * value:.1f}"


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
  flags.DEFINE_string(
    "report", None, "Folder for report.html: what is good and what is wrong."
  )
  flags.DEFINE_list(
    "metrics",
    [],
    f"Metrics besides COCO's, of {','.join(judging.METRICS)}.",
  )
  flags.DEFINE_float(
    "score_threshold",
    0.3,
    "Detections of a lower score are left out of the report's pictures, its "
    "confusion matrix and the metrics of label images.",
    lower_bound=0.0,
    upper_bound=1.0,
  )
  cli.define_process_flags()
  cli.define_augmentation_flags()
  flags.mark_flags_as_required(["checkpoint"])


def main(argv: list[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
  logging.set_verbosity(logging.ERROR)  # Orbax and TFDS tell every step
  if (address := cli.process_address(FLAGS)) is not None:
    parallel.connect(*address)
  use_compilation_cache()
  metrics = evaluate_checkpoint(
    FLAGS.checkpoint,
    data_dir=FLAGS.data_dir,
    split=FLAGS.split,
    overrides=FLAGS.set,
    out=FLAGS.out,
    report_folder=FLAGS.report,
    more_metrics=FLAGS.metrics,
    score_threshold=FLAGS.score_threshold,
    scales=FLAGS.scale,
    flip=FLAGS.flip,
  )
  if jax.process_index() == 0:
    Console(markup=False, highlight=False).print(make_table(metrics))
    print(json.dumps(metrics.scalars()))


if __name__ == "__main__":
  define_flags()
  cli.run(main)
