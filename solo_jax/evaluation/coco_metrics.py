"""COCO mask and box AP. pycocotools is the evaluator.

In a federated dataset (LVIS, https://arxiv.org/abs/1908.03195) an image is
annotated for some categories only. If the images of a dataset list them, only
detections of categories annotated in their image count, and no detection is
wrong if its category is not annotated exhaustively there.
"""

import collections
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


class Comparison(COCOeval):
  """pycocotools' evaluation, federated if the dataset is.

  After `run`, `evalImgs` and `eval` contain matches and tables.
  """

  def run(self, max_detections: int) -> None:
    """Matches and accumulates, quietly.

    Args:
      max_detections: Detections per image and class that count.
    """
    self._not_exhaustive = {
      image["id"]: frozenset(image["not_exhaustive_category_ids"])
      for image in self.cocoGt.dataset["images"]
      if "not_exhaustive_category_ids" in image
    }
    self.params.maxDets = [max_detections]
    with contextlib.redirect_stdout(io.StringIO()):
      self.evaluate()
      self.accumulate()

  def evaluateImg(self, imgId, catId, aRng, maxDet):  # noqa: N802, N803
    """Matches one image and class; see pycocotools."""
    found = super().evaluateImg(imgId, catId, aRng, maxDet)
    if found is not None and catId in self._not_exhaustive.get(imgId, ()):
      found["dtIgnore"] = found["dtIgnore"] | (found["dtMatches"] == 0)
    return found


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
      with segmentation, bbox, area and iscrowd.
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
  truth = index(dataset)
  # A mask's area decides its size class, so `bbox` must not reach loadRes:
  # with it, pycocotools takes the area of the box.
  masks = Comparison(truth, load(truth, results, drop="bbox"), "segm")
  masks.run(max_detections)
  boxes = Comparison(truth, load(truth, results, drop="segmentation"), "bbox")
  boxes.run(max_detections)
  return masks, boxes


def summarize(masks: Comparison, boxes: Comparison) -> Metrics:
  """Returns the COCO metrics of a finished comparison.

  Args:
    masks: As `compare` returns it.
    boxes: As `compare` returns it.

  Returns:
    The metrics.
  """
  # precision: [IoU, recall, class, area, max_detections], -1 without truth.
  precision = masks.eval["precision"][..., -1]
  categories = masks.cocoGt.loadCats(masks.params.catIds)
  names = [category["name"] for category in categories]
  return Metrics(
    mask_AP=mean(precision[..., 0]),
    mask_AP50=mean(precision[0, ..., 0]),
    mask_AP75=mean(precision[5, ..., 0]),
    mask_AP_S=mean(precision[..., AREA_NAMES.index("small")]),
    mask_AP_M=mean(precision[..., AREA_NAMES.index("medium")]),
    mask_AP_L=mean(precision[..., AREA_NAMES.index("large")]),
    mask_AR=mean(masks.eval["recall"][:, :, 0, -1]),
    box_AP=mean(boxes.eval["precision"][..., 0, -1]),
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
    box_source=_box_source(boxes.cocoDt),
  )


def _box_source(found: COCO) -> str:
  """Returns the source of the boxes of results, the same for all."""
  sources = (a.get("box_source", "mask") for a in found.anns.values())
  return next(sources, "mask")


def index(dataset: dict) -> COCO:
  """Returns a COCO dict as a pycocotools object, without printing.

  Args:
    dataset: Not modified, although pycocotools writes into annotations.

  Returns:
    The object; annotation ids count from 1 in the order of the dataset.
  """
  coco = COCO()
  # pycocotools treats an object of id 0 as unmatched.
  annotations = [
    {**a, "id": number} for number, a in enumerate(dataset["annotations"], 1)
  ]
  coco.dataset = {**dataset, "annotations": annotations}
  with contextlib.redirect_stdout(io.StringIO()):
    coco.createIndex()
  return coco


def load(truth: COCO, results: Sequence[dict], *, drop: str) -> COCO:
  """Returns COCO results as a pycocotools object, without printing.

  Args:
    truth: Their ground truth.
    results: COCO results.
    drop: Field of the results to remove.

  Returns:
    The object; detection ids count from 1 in the order of the results.
  """
  if not results:  # loadRes refuses an empty list
    return index({**truth.dataset, "annotations": []})
  kept = [{k: v for k, v in r.items() if k != drop} for r in results]
  with contextlib.redirect_stdout(io.StringIO()):
    return truth.loadRes(kept)


def mean(values: np.ndarray) -> float | None:
  """Returns the mean over entries that have ground truth, None without any.

  Args:
    values: Values of pycocotools' tables, -1 without ground truth.
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
    for result in sorted(found, key=_falling_score)[:max_detections]
    if image_id not in judged or result["category_id"] in judged[image_id]
  ]


def _falling_score(result: dict) -> float:
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
