"""COCO mask and box AP, equal to pycocotools'.

In a federated dataset (LVIS, https://arxiv.org/abs/1908.03195) an image is
annotated for some categories only. If the images of a dataset list them, only
detections of categories annotated in their image count, and no detection is
wrong if its category is not annotated exhaustively there.
"""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from solo_jax import types
from solo_jax.evaluation import rle
from solo_jax.evaluation.comparison import (
  AREAS,
  Comparison,
  Truth,
  box_shapes,
  mask_shapes,
)

_AREA_NAMES = tuple(AREAS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metrics:
  """COCO metrics of one evaluation, each in [0, 1].

  A metric without ground truth (no annotation at all, or none of that size or
  class) is None, where pycocotools has -1.

  Attributes:
    mask_AP: Mean over IoU 0.50:0.05:0.95 and classes.
    mask_AP50: At IoU 0.50.
    mask_AP75: At IoU 0.75.
    mask_AP_S: Objects below 32 x 32 pixels of annotated area.
    mask_AP_M: Between 32 x 32 and 96 x 96.
    mask_AP_L: Above.
    mask_AR: Mean recall with `max_detections` per image.
    box_AP: Box AP of the boxes that `box_source` names.
    class_mask_AP: mask_AP of each class by name.
    class_mask_AP50: mask_AP50 of each class by name.
    extra: Further metrics by name: the requested ones, and mask_AP_r, mask_AP_c
      and mask_AP_f of the rare, common and frequent classes of LVIS.
    box_source: 'predicted' where the method predicts boxes, 'mask' for the
      tight boxes of the masks.
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
  extra: dict[str, float | None] = dataclasses.field(default_factory=dict)
  box_source: str = "mask"

  def scalars(self) -> dict[str, float | None]:
    """Returns the metrics that are not per class, by name."""
    values = dataclasses.asdict(self)
    of_all = {k: v for k, v in values.items() if not isinstance(v, dict | str)}
    return of_all | self.extra


def to_results(
  instances: types.Instances, image_id: int, category_ids: Sequence[int]
) -> list[dict]:
  """Returns the detections of one image as COCO results.

  Args:
    instances: Detections at the original size.
    image_id: The image's id in the source.
    category_ids: The source's category id of each label.

  Returns:
    One dict per detection, ready for JSON: image_id, category_id, segmentation
    (compressed RLE), bbox (x, y, width, height), box_source ('predicted', or
    'mask' where bbox is the tight box of the mask) and score.
  """
  source = "predicted" if instances.has_predicted_boxes else "mask"
  boxes = instances.boxes_xyxy.astype(float)
  boxes_xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
  return [
    {
      "image_id": int(image_id),
      "category_id": int(category_ids[label]),
      "segmentation": segmentation,
      "bbox": box.tolist(),
      "box_source": source,
      "score": float(score),
    }
    for label, segmentation, box, score in zip(
      instances.labels,
      rle.encode(instances.masks, instances.tight_boxes_xyxy),
      boxes_xywh,
      instances.scores,
      strict=True,
    )
  ]


def evaluate(
  dataset: dict, results: Sequence[dict], *, max_detections: int
) -> Metrics:
  """Returns the COCO metrics of results, compared with their ground truth.

  Args:
    dataset: Ground truth, as in `compare`.
    results: Detections, as in `compare`.
    max_detections: See `compare`.

  Returns:
    The metrics; AP is 0 where nothing was detected.

  Raises:
    ValueError: If a result names an image or category the dataset lacks.
  """
  return summarize(*compare(dataset, results, max_detections=max_detections))


def compare(
  dataset: dict, results: Sequence[dict], *, max_detections: int
) -> tuple[Comparison, Comparison]:
  """Returns results matched with their ground truth.

  Args:
    dataset: Ground truth in COCO format: images, categories and annotations
      with segmentation, bbox, area and iscrowd. Not modified.
    results: COCO results with segmentation and bbox, as `to_results` makes.
    max_detections: Highest-scored detections per image and class that count;
      100 in COCO. In a federated dataset, per image; 300 in LVIS.

  Returns:
    masks: Comparison of the masks.
    boxes: Comparison of the boxes.

  Raises:
    ValueError: If a result names an image or category the dataset lacks.
  """
  _check_ids(dataset, results)
  results = drop_unjudged(dataset, results, max_detections)
  truth = Truth(dataset)
  masks, boxes = (
    Comparison(
      truth, results, make(truth, results), max_detections=max_detections
    )
    for make in (mask_shapes, box_shapes)
  )
  return masks, boxes


def summarize(masks: Comparison, boxes: Comparison) -> Metrics:
  """Returns the COCO metrics of a finished comparison.

  Args:
    masks: As `compare` returns it.
    boxes: As `compare` returns it.

  Returns:
    The metrics.
  """
  precision = masks.precision  # [IoU, recall, class, area], -1 without truth
  categories = masks.truth.categories
  names = [category["name"] for category in categories]
  return Metrics(
    mask_AP=mean(precision[..., 0]),
    mask_AP50=mean(precision[0, ..., 0]),
    mask_AP75=mean(precision[5, ..., 0]),
    mask_AP_S=mean(precision[..., _AREA_NAMES.index("small")]),
    mask_AP_M=mean(precision[..., _AREA_NAMES.index("medium")]),
    mask_AP_L=mean(precision[..., _AREA_NAMES.index("large")]),
    mask_AR=mean(masks.recall[:, :, 0]),
    box_AP=mean(boxes.precision[..., 0]),
    class_mask_AP={n: mean(precision[:, :, k, 0]) for k, n in enumerate(names)},
    class_mask_AP50={
      n: mean(precision[0, :, k, 0]) for k, n in enumerate(names)
    },
    extra={
      f"mask_AP_{frequency}": mean(
        precision[
          :, :, [c.get("frequency") == frequency for c in categories], 0
        ]
      )
      for frequency in "rcf"
      if any("frequency" in c for c in categories)
    },
    box_source=_box_source(boxes.results),
  )


def _box_source(results: Sequence[dict]) -> str:
  """Returns the source of the boxes of results, the same for all."""
  return results[0].get("box_source", "mask") if results else "mask"


def mean(values: np.ndarray) -> float | None:
  """Returns the mean over entries that have ground truth, None without any.

  Args:
    values: Values of a comparison's tables, -1 without ground truth.
  """
  values = values[values > -1]
  return float(values.mean()) if values.size else None


def drop_unjudged(
  dataset: dict, results: Sequence[dict], max_detections: int
) -> Sequence[dict]:
  """Returns results without those that a federated dataset cannot judge.

  Args:
    dataset: Ground truth, as in `compare`.
    results: COCO results.
    max_detections: Detections per image that count.

  Returns:
    The results of categories that are annotated in their image.
  """
  judged = {
    image["id"]: {*image["neg_category_ids"]}
    for image in dataset["images"]
    if "neg_category_ids" in image
  }
  if not judged:
    return results
  for annotation in dataset["annotations"]:
    if annotation["image_id"] in judged:
      judged[annotation["image_id"]].add(annotation["category_id"])
  of_image = collections.defaultdict(list)
  for result in results:
    of_image[result["image_id"]].append(result)
  return [
    result
    for image_id, found in of_image.items()
    for result in sorted(found, key=_by_descending_score)[:max_detections]
    if image_id not in judged or result["category_id"] in judged[image_id]
  ]


def _by_descending_score(result: dict) -> float:
  return -result["score"]


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
