"""COCO mask and box AP. pycocotools is the evaluator."""

import contextlib
import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from solo_jax import types
from solo_jax.evaluation import rle

AREA_NAMES = ("all", "small", "medium", "large")  # pycocotools' order


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metrics:
  """COCO metrics of one evaluation, each in [0, 1].

  A metric without any ground truth to measure it on (no annotation at all, or
  none of that size or class) is None; pycocotools writes -1 there.

  Attributes:
    mask_AP: Mean over IoU 0.50:0.05:0.95 and classes.
    mask_AP50: At IoU 0.50.
    mask_AP75: At IoU 0.75.
    mask_AP_S: Objects below 32 x 32 pixels of annotated area.
    mask_AP_M: Between 32 x 32 and 96 x 96.
    mask_AP_L: Above.
    mask_AR: Mean recall with `max_detections` an image.
    box_AP: Box AP of the tight boxes of the masks.
    class_mask_AP: mask_AP of each class by name.
    class_mask_AP50: mask_AP50 of each class by name.
  """

  mask_AP: float | None
  mask_AP50: float | None
  mask_AP75: float | None
  mask_AP_S: float | None
  mask_AP_M: float | None
  mask_AP_L: float | None
  mask_AR: float | None
  box_AP: float | None
  class_mask_AP: dict[str, float | None]
  class_mask_AP50: dict[str, float | None]

  def scalars(self) -> dict[str, float | None]:
    """Returns the eight metrics that are not per class, by name."""
    values = dataclasses.asdict(self)
    return {k: v for k, v in values.items() if not isinstance(v, dict)}


def to_results(
  instances: types.Instances, image_id: int, category_ids: Sequence[int]
) -> list[dict]:
  """Converts the detections of one image into COCO results.

  Args:
    instances: Detections at the original size.
    image_id: The image's id in the source.
    category_ids: The source's category id of each label.

  Returns:
    One dict a detection, ready for JSON: image_id, category_id, segmentation
    (compressed RLE), bbox (x, y, width, height) and score.
  """
  boxes = instances.boxes_xyxy.astype(float)
  boxes_xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
  return [
    {
      "image_id": int(image_id),
      "category_id": int(category_ids[label]),
      "segmentation": segmentation,
      "bbox": box.tolist(),
      "score": float(score),
    }
    for label, segmentation, box, score in zip(
      instances.labels,
      rle.encode(instances.masks, instances.boxes_xyxy),
      boxes_xywh,
      instances.scores,
      strict=True,
    )
  ]


def evaluate(
  dataset: dict, results: Sequence[dict], *, max_detections: int
) -> Metrics:
  """Computes the COCO metrics of results against their ground truth.

  Args:
    dataset: Ground truth in COCO format: images, categories and annotations
      with segmentation, bbox, area and iscrowd.
    results: COCO results with segmentation and bbox, as `to_results` makes.
    max_detections: Highest-scored detections of an image (and class) that
      count; 100 in COCO.

  Returns:
    The metrics; AP is 0 where nothing was detected.

  Raises:
    ValueError: If a result names an image or category the dataset lacks.
  """
  _check_ids(dataset, results)
  truth = _index(dataset)
  # A mask's area decides its size class, so `bbox` must not reach loadRes:
  # with it, pycocotools takes the area of the box.
  mask_results = [{k: v for k, v in r.items() if k != "bbox"} for r in results]
  mask = _accumulate(truth, mask_results, "segm", max_detections)
  box_results = [
    {k: v for k, v in r.items() if k != "segmentation"} for r in results
  ]
  box = _accumulate(truth, box_results, "bbox", max_detections)
  # precision: [IoU, recall, class, area, max_detections], -1 without truth.
  precision = mask["precision"][..., -1]
  names = [c["name"] for c in sorted(dataset["categories"], key=_category_id)]
  return Metrics(
    mask_AP=_mean(precision[..., 0]),
    mask_AP50=_mean(precision[0, ..., 0]),
    mask_AP75=_mean(precision[5, ..., 0]),
    mask_AP_S=_mean(precision[..., AREA_NAMES.index("small")]),
    mask_AP_M=_mean(precision[..., AREA_NAMES.index("medium")]),
    mask_AP_L=_mean(precision[..., AREA_NAMES.index("large")]),
    mask_AR=_mean(mask["recall"][:, :, 0, -1]),
    box_AP=_mean(box["precision"][..., 0, -1]),
    class_mask_AP={
      n: _mean(precision[:, :, k, 0]) for k, n in enumerate(names)
    },
    class_mask_AP50={
      n: _mean(precision[0, :, k, 0]) for k, n in enumerate(names)
    },
  )


def _category_id(category: dict) -> int:
  return category["id"]


def _check_ids(dataset: dict, results: Sequence[dict]) -> None:
  """Raises if results refer to anything the dataset lacks."""
  for field, section in (("image_id", "images"), ("category_id", "categories")):
    known = {entry["id"] for entry in dataset[section]}
    unknown = {result[field] for result in results} - known
    if unknown:
      raise ValueError(
        f"results name {field} {sorted(unknown)[:5]}, which the dataset lacks "
        f"(it has {len(known)} {section}); were they made from another split "
        "or dataset?"
      )


def _index(dataset: dict) -> COCO:
  """Wraps a COCO dict as a pycocotools object, quietly."""
  coco = COCO()
  # pycocotools writes into the annotations; the caller's stay as they are.
  annotations = [dict(a) for a in dataset["annotations"]]
  coco.dataset = {**dataset, "annotations": annotations}
  with contextlib.redirect_stdout(io.StringIO()):
    coco.createIndex()
  return coco


def _accumulate(
  truth: COCO, results: list[dict], kind: str, max_detections: int
) -> dict:
  """Runs pycocotools quietly; returns its precision and recall tables."""
  with contextlib.redirect_stdout(io.StringIO()):
    if results:
      detections = truth.loadRes(results)
    else:  # loadRes refuses an empty list
      detections = _index({**truth.dataset, "annotations": []})
    evaluation = COCOeval(truth, detections, kind)
    evaluation.params.maxDets = [max_detections]
    evaluation.evaluate()
    evaluation.accumulate()
  return evaluation.eval


def _mean(values: np.ndarray) -> float | None:
  """Mean over entries that have ground truth; None if there is none."""
  values = values[values > -1]
  return float(values.mean()) if values.size else None
