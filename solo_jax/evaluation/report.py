"""The evaluation report: a self-contained HTML file.

`summarize` computes what the report shows as plain numbers, `write` puts them
into report.html, whose scripts draw them in the browser.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from solo_jax.evaluation import (
  errors,
  microscopy,
  operating_point,
  page,
  report_images,
)
from solo_jax.evaluation.coco_metrics import Metrics, mean
from solo_jax.evaluation.comparison import AREAS, Comparison
from solo_jax.evaluation.matching import IOUS

SCRIPTS = [
  f"report_{name}.js"
  for name in (
    "charts",
    "images",
    "numbers",
    "tables",
    "stage",
    "gallery",
    "viewer",
  )
]
# IoU thresholds whose curves are shown, in addition to the mean over all ten.
CURVE_IOUS = (0.5, 0.75, 0.9)
# With more classes than this, only those with most confusions have a row in the
# matrix, and curves are only kept for all classes together.
MAX_MATRIX_CLASSES = 24
MAX_CURVE_CLASSES = 100
SWEEP = np.linspace(0, 1, 51)
NUM_LARGE = 12  # images of each kind that are looked at first
MAX_IMAGES = 6000  # of one page


def summarize(
  masks: Comparison,
  metrics: Metrics,
  *,
  score_threshold: float,
  overlaps: Sequence[microscopy.Overlaps] | None = None,
) -> tuple[dict[str, Any], list[report_images.Shown]]:
  """Returns everything that the report shows except pictures and times.

  Args:
    masks: Finished comparison of masks.
    metrics: Its metrics.
    score_threshold: Threshold for the confusion matrix, the quality of images
      and the metrics of label images.
    overlaps: Overlaps of label images, `microscopy.overlaps`; None leaves these
      out.

  Returns:
    data: Sections by name, ready for JSON.
    shown: Images to draw: all, or MAX_IMAGES of the worst, the best and those
      with the most confident mistakes.
  """
  outcomes = errors.find_outcomes(masks)
  num_classes = len(masks.truth.categories)
  names = [category["name"] for category in masks.truth.categories]
  judged = operating_point.judge_images(
    masks.truth.images, outcomes, score_threshold
  )
  matrix = operating_point.confusion_matrix(masks, outcomes, score_threshold)
  calibration = operating_point.calibrate(outcomes)
  data = dict(
    metrics=metrics.scalars(),
    box_source=metrics.box_source,
    score_threshold=score_threshold,
    max_detections=masks.max_detections,
    num_images=len(masks.truth.images),
    num_objects=len(outcomes.object_ids),
    num_detections=len(outcomes.scores),
    is_federated=any(
      "neg_category_ids" in image for image in masks.truth.images.values()
    ),
    sizes=_by_size(masks),
    classes=_by_class(masks, outcomes, names),
    curves=_curves(masks, names),
    errors=errors.find_costs(outcomes, num_classes),
    confusion=_shorten(matrix, names),
    calibration=dataclasses.asdict(calibration),
    sweep=dict(thresholds=SWEEP, **operating_point.sweep(outcomes, SWEEP)),
    qualities=np.array([image.quality for image in judged]),
  )
  if overlaps is not None:
    rows = [microscopy.evaluate(overlaps, t) for t in SWEEP]
    data["sweep"]["dsb_AP"] = [row["dsb_AP"] for row in rows]
    data["sweep"]["SBD"] = [row["SBD"] for row in rows]
  large = _choose(judged, NUM_LARGE)
  kept = {image.image_id for image in judged}
  if len(judged) > MAX_IMAGES:
    kept = _choose(judged, MAX_IMAGES // 3)
  return data, [
    report_images.describe(
      image,
      masks,
      outcomes,
      score_threshold=score_threshold,
      is_large=image.image_id in large,
    )
    for image in judged
    if image.image_id in kept
  ]


def _choose(
  judged: list[operating_point.ImageQuality], number: int
) -> set[int]:
  """Returns the ids of the best, the worst and the most confusing images."""
  chosen = operating_point.choose_images(judged, number)
  return {image.image_id for images in chosen.values() for image in images}


def _by_size(masks: Comparison) -> list[dict]:
  """Returns AP, AP50 and recall by annotated area."""
  precision, recall = masks.precision, masks.recall
  areas = np.array(
    [a["area"] for a in masks.truth.annotations if not a["iscrowd"]]
  )
  return [
    dict(
      name=name,
      # COCO counts an object of 32 x 32 pixels as small and as medium; here
      # sizes add up to all.
      num_objects=int(((areas >= low) & (areas < high)).sum()),
      AP=mean(precision[..., i]),
      AP50=mean(precision[0, ..., i]),
      AR=mean(recall[..., i]),
    )
    for i, (name, (low, high)) in enumerate(AREAS.items())
  ]


def _by_class(
  masks: Comparison, outcomes: errors.Outcomes, names: Sequence[str]
) -> list[dict]:
  """Returns one row per class."""
  precision, recall = masks.precision, masks.recall
  num_objects = np.bincount(outcomes.object_labels, minlength=len(names))
  num_found = np.bincount(outcomes.labels, minlength=len(names))
  return [
    dict(
      name=name,
      num_objects=int(num_objects[k]),
      num_detections=int(num_found[k]),
      AP=mean(precision[:, :, k, 0]),
      AP50=mean(precision[0, :, k, 0]),
      AP75=mean(precision[5, :, k, 0]),
      AP_S=mean(precision[:, :, k, 1]),
      AP_M=mean(precision[:, :, k, 2]),
      AP_L=mean(precision[:, :, k, 3]),
      AR=mean(recall[:, k, 0]),
    )
    for k, name in enumerate(names)
  ]


def _curves(masks: Comparison, names: Sequence[str]) -> list[dict]:
  """Returns precision at 101 recalls, of all classes and then of each one."""
  precision = masks.precision[..., 0]  # [IoU, recall, class]
  has_truth = (precision > -1).all((0, 1))
  scores = masks.score_table[0, ..., 0]  # at IoU 0.5
  rows = [np.flatnonzero(np.isclose(IOUS, t))[0] for t in CURVE_IOUS]

  def curve(name, kept, scores):
    of_ious = precision[:, :, kept].mean(2)
    return dict(
      name=name,
      precisions=[*of_ious[rows], of_ious.mean(0)],
      scores=scores,
    )

  if not has_truth.any():
    return []
  curves = [curve("all classes", has_truth, None)]
  if 1 < len(names) <= MAX_CURVE_CLASSES:
    curves += [
      curve(names[k], [k], scores[:, k]) for k in np.flatnonzero(has_truth)
    ]
  return curves


def _shorten(matrix: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
  """Returns the confusion matrix of the most confused classes."""
  between = matrix[:-1, :-1].copy()
  np.fill_diagonal(between, 0)
  order = np.argsort(-between, axis=None, kind="stable")[:10]
  pairs = [np.unravel_index(i, between.shape) for i in order]
  kept = np.arange(len(names))
  if len(names) > MAX_MATRIX_CLASSES:
    # Then by the number of objects, so that it is always full.
    confused = between.sum(0) + between.sum(1)
    kept = np.lexsort((-matrix[:-1].sum(1), -confused))[:MAX_MATRIX_CLASSES]
    kept = np.sort(kept)
  rows = np.append(kept, len(names))  # and "none"
  return dict(
    names=[names[k] for k in kept],
    num_classes=len(names),
    counts=matrix[np.ix_(rows, rows)],
    pairs=[
      dict(truth=names[i], found=names[j], number=between[i, j])
      for i, j in pairs
      if between[i, j]
    ],
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
  """How an evaluation was made.

  Attributes:
    title: Title of the page.
    command: The command line; '' for none.
    facts: What was evaluated, by name.
    stages: Seconds of each stage of the evaluation.
    total_seconds: Total seconds of the evaluation.
  """

  title: str
  command: str
  facts: Mapping[str, str]
  stages: Mapping[str, float]
  total_seconds: float


def write(
  folder: str,
  data: Mapping[str, Any],
  about: About,
  *,
  shown: Sequence[report_images.Shown],
  pictures: Mapping[int, report_images.Picture],
  palette: Sequence[str],
) -> epath.Path:
  """Writes the report.

  Args:
    folder: Folder to write report.html to; created if missing. Pictures that
      are too large for one file go next to it.
    data: As `summarize` returns it.
    about: How it was made.
    shown: As `summarize` returns it.
    pictures: Pictures of these images, by image id.
    palette: Colours such as '#ff4d6d', the last for detections without an
      object.

  Returns:
    The path of the file.
  """
  path = epath.Path(folder) / "report.html"
  path.parent.mkdir(parents=True, exist_ok=True)
  content = dict(
    data,
    facts=about.facts,
    stages=about.stages,
    total_seconds=about.total_seconds,
    palette=palette[:-1],
    unmatched=palette[-1],
    images=report_images.join(shown, pictures, path.parent),
  )
  text = page.build(
    page.Heading(title=about.title, command=about.command),
    page.read("report.html"),
    data=_to_plain(content),
    styles=["gallery.css"],
    scripts=SCRIPTS,
  )
  path.write_text(text, "utf-8")
  return path


def _to_plain(value: Any) -> Any:
  """Returns numpy values for JSON, null for NaN.

  Arrays are rounded to six decimals, to save space. Single numbers, such as AP,
  are whole: rounded twice, 0.523545 would be 52.4 or 52.3.
  """
  if isinstance(value, Mapping):
    return {str(k): _to_plain(v) for k, v in value.items()}
  if isinstance(value, np.ndarray):
    value = np.round(value, 6) if value.dtype.kind == "f" else value
    return _to_plain(value.tolist())
  if isinstance(value, list | tuple):
    return [_to_plain(v) for v in value]
  if isinstance(value, np.integer):
    return int(value)
  if isinstance(value, float):  # np.float64 too
    return float(value) if math.isfinite(value) else None
  return value
