"""All metrics of an evaluation: COCO's and the optional ones."""

import dataclasses
from collections.abc import Sequence

from solo_jax.evaluation import boundary, coco_metrics, microscopy
from solo_jax.evaluation.comparison import Comparison

# Optional metrics. Both read every mask once more and are not useful for most
# data, so they are only computed on request.
METRICS = ("boundary", "microscopy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
  """Results compared with their ground truth.

  Attributes:
    metrics: COCO's and the requested ones.
    masks: The comparison of masks.
    overlaps: Overlaps of label images, if requested.
  """

  metrics: coco_metrics.Metrics
  masks: Comparison
  overlaps: list[microscopy.Overlaps] | None


def judge(
  dataset: dict,
  results: Sequence[dict],
  *,
  max_detections: int,
  more_metrics: Sequence[str],
  score_threshold: float,
) -> Judged:
  """Returns COCO metrics and the requested ones of METRICS.

  Args:
    dataset: Ground truth in COCO format.
    results: COCO results.
    max_detections: See `coco_metrics.compare`.
    more_metrics: Names from METRICS.
    score_threshold: Threshold for the metrics of label images.

  Returns:
    The metrics and what they were made of.
  """
  masks, boxes = coco_metrics.compare(
    dataset, results, max_detections=max_detections
  )
  metrics, overlaps = coco_metrics.summarize(masks, boxes), None
  extra = dict(metrics.extra)
  if "boundary" in more_metrics:
    extra |= boundary.evaluate(dataset, results, max_detections=max_detections)
  if "microscopy" in more_metrics:
    overlaps = microscopy.overlaps(dataset, results)
    extra |= microscopy.evaluate(overlaps, score_threshold)
  return Judged(
    metrics=dataclasses.replace(metrics, extra=extra),
    masks=masks,
    overlaps=overlaps,
  )
