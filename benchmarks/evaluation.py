r"""Measures COCO evaluation against pycocotools and two compiled evaluators.

python benchmarks/evaluation.py --images=5000

Draws a split as large as COCO val2017, with 80 classes, 36,000 objects and
192,000 detections with masks and boxes. Then it evaluates masks and boxes with
each evaluator, in CPU seconds of one core, all in one run:

  ours            evaluation/comparison.py
  pycocotools     COCOeval
  faster_coco_eval, hotcoco   in C++ and Rust, if they are installed

Each starts from the same dicts and ends with its tables; mask AP and box AP
must agree within 1e-12. Encoding the masks and the tables of the report are
timed as well.
"""

import contextlib
import copy
import importlib.util
import io
import os
import time
from collections.abc import Callable

import numpy as np
from absl import app, flags, logging
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from solo_jax.evaluation import coco_metrics, report, rle

IMAGES = flags.DEFINE_integer("images", 5000, "Images; COCO val2017: 5,000.")
CLASSES, OBJECTS, DETECTIONS = 80, 7.2, 38.4  # the last two per image
SIZE = 480, 640


def ellipse(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """Returns centre and half axes, of COCO's mixture of sizes."""
  radius = np.exp(rng.uniform(np.log(6), np.log(150)))
  axes = np.maximum(3, radius * rng.uniform(0.6, 1.6, 2))
  return rng.uniform(0, (SIZE[1], SIZE[0])), axes


def encode(center: np.ndarray, axes: np.ndarray) -> dict | None:
  """Returns the RLE of an ellipse; None if it is outside of the image."""
  turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
  points = center + axes * np.stack([np.cos(turn), np.sin(turn)], 1)
  points = points.clip(0, (SIZE[1], SIZE[0]))
  (encoded,) = coco_mask.frPyObjects([points.ravel().tolist()], *SIZE)
  return encoded if coco_mask.area(encoded) else None


def draw(num_images: int) -> tuple[dict, list[dict]]:
  """Returns a dataset, and detections of it with every kind of error."""
  rng = np.random.default_rng(0)
  annotations, results = [], []
  for image_id in range(1, num_images + 1):
    truth = []
    for _ in range(rng.poisson(OBJECTS)):
      label = int(rng.zipf(1.5)) % CLASSES
      truth.append((label, *ellipse(rng)))
      encoded = encode(*truth[-1][1:])
      if encoded is None:
        continue
      annotations.append(
        dict(
          id=len(annotations) + 1,
          image_id=image_id,
          category_id=label + 1,
          iscrowd=int(rng.random() < 0.01),
          area=float(coco_mask.area(encoded)),
          bbox=coco_mask.toBbox(encoded).tolist(),
          segmentation=encoded,
        )
      )
    for _ in range(rng.poisson(DETECTIONS)):
      label, (center, axes) = int(rng.zipf(1.5)) % CLASSES, ellipse(rng)
      if truth and rng.random() < 0.5:
        label, center, axes = truth[rng.integers(len(truth))]
        center = center + axes * rng.normal(0, 0.15, 2)
        axes = axes * rng.uniform(0.8, 1.2, 2)
      encoded = encode(center, axes)
      if encoded is None:
        continue
      encoded["counts"] = encoded["counts"].decode()
      results.append(
        dict(
          image_id=image_id,
          category_id=label + 1,
          segmentation=encoded,
          bbox=coco_mask.toBbox(encoded).tolist(),
          score=round(float(rng.random()), 3),
        )
      )
  images = [
    dict(id=i, height=SIZE[0], width=SIZE[1]) for i in range(1, num_images + 1)
  ]
  categories = [dict(id=k + 1, name=f"class {k}") for k in range(CLASSES)]
  return dict(
    images=images, annotations=annotations, categories=categories
  ), results


def by_ours(dataset, results):
  masks, boxes = coco_metrics.compare(dataset, results, max_detections=100)
  return masks.precision[..., 0], boxes.precision[..., 0]


def by_cocoeval(make_coco, make_evaluation, dataset, results):
  """Evaluates as pycocotools' users do."""
  tables = []
  for kind, dropped in (("segm", "bbox"), ("bbox", "segmentation")):
    truth = make_coco(dataset)
    found = truth.loadRes(
      [{k: v for k, v in r.items() if k != dropped} for r in results]
    )
    evaluation = make_evaluation(truth, found, kind)
    evaluation.evaluate()
    evaluation.accumulate()
    tables.append(np.asarray(evaluation.eval["precision"])[..., 0, -1])
  return tables


def make_coco(dataset):
  coco = COCO()
  coco.dataset = dataset
  coco.createIndex()
  return coco


def evaluators() -> dict[str, Callable]:
  """Returns those that are installed, by name."""
  found = {
    "ours": by_ours,
    "pycocotools": lambda *x: by_cocoeval(make_coco, COCOeval, *x),
  }
  if importlib.util.find_spec("faster_coco_eval"):
    import faster_coco_eval as peer

    logging.set_verbosity(logging.ERROR)  # it logs each step

    found["faster_coco_eval"] = lambda *x: by_cocoeval(
      peer.COCO, peer.COCOeval_faster, *x
    )
  if importlib.util.find_spec("hotcoco"):
    import hotcoco

    found["hotcoco"] = lambda *x: by_cocoeval(
      hotcoco.COCO, hotcoco.COCOeval, *x
    )
  return found


def mean_precision(table):
  return table[table > -1].mean()


def main(argv: list[str]) -> None:
  """Runs the benchmark."""
  del argv
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  dataset, results = draw(IMAGES.value)
  print(
    f"{IMAGES.value} images, {len(dataset['annotations'])} objects, "
    f"{len(results)} detections"
  )
  seconds, values = {}, {}
  for name, evaluate in evaluators().items():
    inputs = copy.deepcopy((dataset, results))
    with contextlib.redirect_stdout(io.StringIO()):
      start = time.process_time()
      tables = evaluate(*inputs)
      seconds[name] = time.process_time() - start
    values[name] = [mean_precision(table) for table in tables]
    np.testing.assert_allclose(values[name], values["ours"], rtol=0, atol=1e-12)
    print(
      f"{name:18} {seconds[name]:6.2f} CPU s, "
      f"{seconds[name] / seconds['ours']:5.2f} of ours, "
      f"mask AP {values[name][0]:.4f}, box AP {values[name][1]:.4f}"
    )
  masks, boxes = coco_metrics.compare(dataset, results, max_detections=100)
  metrics = coco_metrics.summarize(masks, boxes)
  start = time.process_time()
  report.summarize(masks, metrics, score_threshold=0.3)
  print(f"tables of the report {time.process_time() - start:.2f} CPU s")
  kept = [r["segmentation"] for r in results[:2000]]
  decoded = rle.decode(kept, SIZE)
  boxes_xyxy = rle.boxes(kept)
  start = time.process_time()
  rle.encode(decoded, boxes_xyxy)
  used = time.process_time() - start
  start = time.process_time()
  planes = np.asfortranarray(decoded.transpose(1, 2, 0).view(np.uint8))
  coco_mask.encode(planes)
  theirs = time.process_time() - start
  print(
    f"encoding: {1e6 * used / len(kept):.0f} CPU us per mask, pycocotools "
    f"{1e6 * theirs / len(kept):.0f}"
  )


if __name__ == "__main__":
  app.run(main)
