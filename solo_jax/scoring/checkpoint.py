"""Scores a checkpoint on a split of its dataset: metrics, results, report."""

import dataclasses
import json
import shlex
import time
from collections.abc import Sequence

import jax
import ml_collections
import rich.console
import rich.progress
from etils import epath

from solo_jax import parallel, weights
from solo_jax.building import build_predictor, check_config
from solo_jax.checkpoints import store
from solo_jax.checkpoints.compatibility import flatten
from solo_jax.config import parse_arg
from solo_jax.data.records import Records, find_prepared, open_records
from solo_jax.errors import UserError
from solo_jax.evaluation import judging, report
from solo_jax.evaluation.coco_metrics import Metrics
from solo_jax.inference.predictor import Predictor
from solo_jax.media.pictures import draw_images, palette
from solo_jax.scoring.records import (
  check_classes,
  check_things,
  count_dropped,
  detect_records,
  instances_of,
  segment_metrics,
)
from solo_jax.terminal import plural

# Sections of the config that an evaluation may change.
SECTIONS = ("decode", "evaluation")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
  """What to evaluate, how, and where to write results.

  Attributes:
    path: Folder of a run or of one checkpoint.
    data_dir: Folder of the prepared datasets. The folder in the checkpoint is
      not used, because a file must not decide what is opened.
    split: Split to evaluate; None: the config's `eval_split`.
    overrides: Changes of the config, see `override`.
    out: File for the COCO results; None: not written.
    report_folder: Folder for report.html, created if missing; None: not
      written.
    more_metrics: Names from `judging.METRICS`.
    score_threshold: Threshold for the metrics of label images and the report's
      confusion matrix and pictures.
    scales: Sizes for test-time augmentation, see Predictor.
    flip: Whether to mirror as test-time augmentation, see Predictor.
    command: The command line, for the report.
  """

  path: str
  data_dir: str
  split: str | None = None
  overrides: str | None = None
  out: str | None = None
  report_folder: str | None = None
  more_metrics: Sequence[str] = ()
  score_threshold: float = 0.3
  scales: Sequence[float] = (1.0,)
  flip: bool = False
  command: str = ""


def evaluate_checkpoint(
  request: Request, progress: rich.progress.Progress
) -> Metrics:
  """Returns the metrics of a checkpoint; process 0 prints and writes them.

  Args:
    request: The request.
    progress: Progress display; the stages are printed on its console.

  Returns:
    The metrics, the same in all processes.

  Raises:
    UserError: If the checkpoint, the records or the folder of `out` are
      missing, the checkpoint is damaged or has other classes than the data, or
      an override or the name of a metric is invalid.
  """
  _check_request(request)
  checkpoint, config, records = _load(request)
  parallel.check_agreement(
    {
      **flatten(config.to_dict()),
      "step of the checkpoint": checkpoint.step,
      "images to evaluate": len(records),
      "--scale": tuple(request.scales),
      "--flip": request.flip,
    }
  )
  predictor = build_predictor(
    config,
    checkpoint.variables,
    batch_size=config.evaluation.batch_size,
    devices=jax.local_devices(),
    scales=request.scales,
    flip=request.flip,
  )
  check_things(predictor.model.method, records)
  console = progress.console
  console.print(
    f"step {checkpoint.step} of {config.method}, "
    f"{plural(len(records), 'image')} of {config.dataset.name} {records.split}"
  )
  for line in checkpoint.warnings():
    console.print(line, soft_wrap=True)
  _warn_of_exif(checkpoint, records, console)
  start = time.perf_counter()
  results = _detect(predictor, records, checkpoint.category_ids, progress)
  num_dropped = count_dropped(predictor)
  console.print(f"comparing {len(results)} detections with the truth")
  judged = _judge(
    request, predictor, records, results, config.evaluation.max_detections
  )
  seconds = time.perf_counter() - start
  console.print(
    f"{len(results)} detections in {seconds:.1f} s, "
    f"{predictor.summary(num_dropped)}",
    soft_wrap=True,
  )
  if jax.process_index() == 0 and request.out:
    epath.Path(request.out).write_text(json.dumps(results))
  if jax.process_index() == 0 and request.report_folder:
    console.print("writing the report")
    written = write_report(
      request.report_folder,
      judged,
      records,
      report.About(
        title=f"{config.method} on {config.dataset.name}, {records.split}",
        command=request.command,
        facts=_facts(request, checkpoint, records, predictor, num_dropped),
        stages=predictor.clock.seconds,
        total_seconds=seconds,
      ),
      score_threshold=request.score_threshold,
    )
    console.print(f"report: {written}", soft_wrap=True)
  return judged.metrics


def _warn_of_exif(
  checkpoint: store.Checkpoint, records: Records, console: rich.console.Console
) -> None:
  """Prints a warning if photographs were rotated differently in training."""
  if checkpoint.exif not in (None, records.exif):
    console.print(
      f"warning: training data were prepared with --exif={checkpoint.exif}, "
      f"these data with --exif={records.exif}"
    )


def _judge(
  request: Request,
  predictor: Predictor,
  records: Records,
  results: list[dict],
  max_detections: int,
) -> judging.Judged:
  """Returns detections compared with the truth, with all requested metrics."""
  with predictor.clock("metrics"):
    judged = judging.judge(
      instances_of(records),
      results,
      max_detections=max_detections,
      more_metrics=request.more_metrics,
      score_threshold=request.score_threshold,
    )
  extra = judged.metrics.extra | segment_metrics(predictor, records)
  return dataclasses.replace(
    judged, metrics=dataclasses.replace(judged.metrics, extra=extra)
  )


def _facts(
  request: Request,
  checkpoint: store.Checkpoint,
  records: Records,
  predictor: Predictor,
  num_dropped: int,
) -> dict[str, str]:
  """Returns facts about the evaluation for the report, by name."""
  config = checkpoint.config
  scales = ", ".join(f"{x:g}" for x in request.scales)
  return {
    "method": config.method,
    "step": f"{checkpoint.step:,}",
    "data": f"{config.dataset.name}, {records.split}",
    "checkpoint": request.path,
    "settings": request.overrides or "the checkpoint's",
    "beyond capacity": f"{num_dropped:,} candidates",
    "scales": scales + (", each also mirrored" if request.flip else ""),
    "padded shapes compiled": f"{predictor.num_compiled}",
    "device": jax.devices()[0].device_kind,
  }


def _check_request(request: Request) -> None:
  """Raises early, in all processes, for what would fail at the end."""
  unknown = set(request.more_metrics) - set(judging.METRICS)
  if unknown:
    raise UserError(
      f"--metrics: unknown {', '.join(sorted(unknown))}; known: "
      f"{', '.join(judging.METRICS)}"
    )
  is_missing, out = False, request.out
  # Only process 0 writes, so the folder need only exist on its disk. A bucket
  # has no folders to create first.
  if jax.process_index() == 0 and out and "://" not in out:
    is_missing = not epath.Path(out).absolute().parent.is_dir()
  if parallel.any_process(is_missing):
    raise UserError(f"--out={out}: no such folder; create it first")


def _load(
  request: Request,
) -> tuple[store.Checkpoint, ml_collections.ConfigDict, Records]:
  """Returns a checkpoint, its config with the overrides, and the records."""
  checkpoint = weights.load(request.path)
  config = checkpoint.config
  if request.overrides:
    config = override(config, request.overrides)
  name, trained_in = config.dataset.name, config.dataset.data_dir
  if (
    find_prepared(request.data_dir, name) is None
    and trained_in != request.data_dir
  ):
    raise UserError(
      f"no dataset {name!r} in --data_dir={request.data_dir}; the training had "
      f"it in {trained_in}: to read it there, pass "
      f"{shlex.quote(f'--data_dir={trained_in}')}"
    )
  records = open_records(
    request.data_dir, name, request.split or config.dataset.eval_split
  )
  check_classes(
    records,
    class_names=checkpoint.class_names,
    category_ids=checkpoint.category_ids,
  )
  return checkpoint, config, records


def _detect(
  predictor: Predictor,
  records: Records,
  category_ids: Sequence[int],
  progress: rich.progress.Progress,
) -> list[dict]:
  """Returns the detections of all records, showing this process's progress."""
  share = range(jax.process_index(), len(records), jax.process_count())
  with progress:
    task = progress.add_task("evaluating", total=len(share))
    return detect_records(
      predictor,
      records,
      category_ids=category_ids,
      on_image=lambda: progress.advance(task),
    )


def write_report(
  folder: str,
  judged: judging.Judged,
  records: Records,
  about: report.About,
  *,
  score_threshold: float,
) -> epath.Path:
  """Writes the report of an evaluation.

  Args:
    folder: Folder to write report.html to; created if missing.
    judged: The comparison with the truth.
    records: What was evaluated.
    about: How it was evaluated.
    score_threshold: Threshold for the confusion matrix and the pictures.

  Returns:
    The path of the file.
  """
  data, shown = report.summarize(
    judged.masks,
    judged.metrics,
    score_threshold=score_threshold,
    overlaps=judged.overlaps,
  )
  return report.write(
    folder,
    data,
    about,
    shown=shown,
    pictures=draw_images(records, shown),
    palette=palette(),
  )


def override(
  config: ml_collections.ConfigDict, text: str
) -> ml_collections.ConfigDict:
  """Returns a config with changed fields of the sections for evaluation.

  Args:
    config: Config of the checkpoint.
    text: 'decode.score_threshold=0.05,evaluation.max_detections=300'.

  Returns:
    A changed copy.

  Raises:
    UserError: If a field is unknown, or a value has the wrong type or is out of
      range.
  """
  known = {
    f"{section}.{field}": value
    for section in SECTIONS
    for field, value in config[section].items()
    if not isinstance(value, tuple)  # which cannot be written as text
  }
  try:
    values = vars(parse_arg(text, **known))
  except UserError as error:
    raise UserError(f"--set: {error}") from error
  config = config.copy_and_resolve_references().unlock()
  config.update_from_flattened_dict(values)
  check_config(config)
  return config.lock()
