"""Evaluates a predictor on records: detections, results and metrics."""

import collections
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any

import jax
import numpy as np
from absl import logging

from solo_jax import parallel, types
from solo_jax.data import records as data_records
from solo_jax.errors import UserError
from solo_jax.evaluation import coco_metrics
from solo_jax.inference.predictor import Predictor
from solo_jax.inference.segmentation import Segmenter
from solo_jax.inference.stage_clock import StageClock
from solo_jax.methods.interface import Method
from solo_jax.scoring.segments import evaluate_segments
from solo_jax.terminal import plural

# Threads that encode masks.
NUM_ENCODERS = 2
# Images whose masks may wait to be encoded: 100 masks of 640 x 480 are 31 MB.
MAX_WAITING = 8
# Class of an output that was never trained (conversion/classes.py).
NO_CATEGORY = "N/A"


def evaluate_records(
  predictor: Predictor,
  records: data_records.Records,
  *,
  max_detections: int,
  on_image: Callable[[], None] | None = None,
) -> tuple[coco_metrics.Metrics, list[dict]]:
  """Returns the metrics of the instances detected in every record.

  Args:
    predictor: Predictor of the records' classes.
    records: Split to evaluate.
    max_detections: Detections per image that count, see `coco_metrics`.
    on_image: Called after each image, for showing progress.

  Returns:
    The metrics, and the results as `detect_records` returns them.
  """
  results = detect_records(predictor, records, on_image=on_image)
  with predictor.clock("metrics"):
    metrics = coco_metrics.evaluate(
      instances_of(records), results, max_detections=max_detections
    )
  extra = metrics.extra | segment_metrics(predictor, records)
  return dataclasses.replace(metrics, extra=extra), results


def instances_of(records: data_records.Records) -> dict[str, Any]:
  """Returns the things of a split as instances in COCO's format.

  Args:
    records: Any split.
  """
  dataset = data_records.to_coco(records)
  if not records.is_thing:
    return dataset
  things = {x["id"] for x in dataset["categories"] if x["isthing"]}
  return dataset | dict(
    categories=[x for x in dataset["categories"] if x["id"] in things],
    annotations=[
      x for x in dataset["annotations"] if x["category_id"] in things
    ],
  )


def segment_metrics(
  predictor: Predictor, records: data_records.Records
) -> dict[str, float | None]:
  """Returns panoptic quality and mean IoU where every pixel is labelled.

  Args:
    predictor: Predictor of the records' classes.
    records: Split to evaluate.

  Returns:
    See `evaluate_segments`; empty for instance data and for methods that only
    find instances.
  """
  if not records.is_thing:
    return {}
  method = predictor.model.method
  kinds = dict(panoptic=method.decode_panoptic, semantic=method.decode_semantic)
  kinds = [kind for kind, decode in kinds.items() if decode is not None]
  if not any(records.is_thing):
    kinds = [kind for kind in kinds if kind != "panoptic"]
  if not kinds:
    return {}
  with predictor.clock("segment maps"):
    return evaluate_segments(Segmenter(predictor, kinds), records)


def detect_records(
  predictor: Predictor,
  records: data_records.Records,
  *,
  category_ids: Sequence[int] | None = None,
  on_image: Callable[[], None] | None = None,
) -> list[dict]:
  """Returns the instances detected in every record.

  A corrupt image is logged and has no detections, but its annotations count.
  Each process handles a part of the images; all get all results. Masks are
  encoded in threads while the device processes the next batch.

  Args:
    predictor: Predictor of the records' classes.
    records: Split to read.
    category_ids: Category id of each label of the predictor; None: those of
      the records. Detections of categories that these do not have are
      left out, as no annotation can match them.
    on_image: Called after each image, for showing progress.

  Returns:
    COCO results with the dataset's own image and category ids, in the order
    of the records.
  """
  found = {}
  corrupt = set()
  known = set(records.category_ids)
  if category_ids is None:
    category_ids = records.category_ids
  # Sorted by padded shape, so that batches are full; within a shape, in order.
  sizes = zip(records.heights, records.widths, strict=True)
  shapes = [predictor.padded_size((int(h), int(w))) for h, w in sizes]
  order = sorted(range(len(records)), key=lambda index: shapes[index])
  order = order[jax.process_index() :: jax.process_count()]

  def encode(index: int, instances: types.Instances) -> None:
    with predictor.clock("run-length encoding"):
      results = coco_metrics.to_results(
        instances, records.image_ids[index], category_ids
      )
      found[index] = [x for x in results if x["category_id"] in known]

  images = _read_images(records, order, corrupt, predictor.clock)
  waiting = collections.deque()
  with futures.ThreadPoolExecutor(NUM_ENCODERS) as encoders:
    for position, instances in predictor.stream(images):
      index = order[position]
      if index not in corrupt:
        waiting.append(encoders.submit(encode, index, instances))
      if len(waiting) > MAX_WAITING:
        waiting.popleft().result()
      if on_image is not None:
        on_image()
    for encoded in waiting:
      encoded.result()
  # JSON has no integer keys; in the order of the records again.
  parts = parallel.gather_json(sorted(found.items()))
  images = sorted(
    (image for part in parts for image in part), key=lambda x: x[0]
  )
  return [result for _, image in images for result in image]


def count_dropped(predictor: Predictor) -> int:
  """Returns the number of candidates dropped by all processes so far.

  All must call it.
  """
  return sum(parallel.gather_json(predictor.num_dropped))


def check_things(method: Method, records: data_records.Records) -> None:
  """Checks that a method separates the same things as the data do.

  Args:
    method: Any method; one without panoptic maps treats every segment as an
      object.
    records: Split to train or evaluate on.

  Raises:
    errors.UserError: If it treats stuff as things, or things as stuff.
  """
  if method.decode_panoptic is None or not records.is_thing:
    return
  if method.is_thing != records.is_thing:
    things = tuple(i for i, is_thing in enumerate(records.is_thing) if is_thing)
    raise UserError(
      f"{plural(sum(method.is_thing), 'class')} of things in the config, "
      f"{len(things)} in the data, and they must be the same labels: set "
      f"--config.decode.things={things}"
    )


def check_classes(
  records: data_records.Records,
  *,
  class_names: tuple[str, ...],
  category_ids: tuple[int, ...],
) -> None:
  """Checks that a split has the classes a model was trained for.

  Args:
    records: Split to evaluate.
    class_names: Class names of the model, in label order.
    category_ids: Category ids of the model, in label order.

  Raises:
    UserError: If names, ids or their order differ, except for outputs of the
      model without a class.
  """
  expected = [
    (category, name)
    for category, name in zip(category_ids, class_names, strict=True)
    if name != NO_CATEGORY
  ]
  found = list(zip(records.category_ids, records.class_names, strict=True))
  if expected != found:
    differing = [
      f"label {label}: {trained} in the checkpoint, {given} in the data"
      for label, (trained, given) in enumerate(zip(expected, found))  # noqa: B905
      if trained != given
    ]
    raise UserError(
      f"the checkpoint has {plural(len(expected), 'class')} (id, name), the "
      "data in "
      f"{records.path} {len(found)}, and they must be the same. "
      + "; ".join(differing[:3])
      + " Evaluate on the dataset the model was trained for."
    )


def _read_images(
  records: data_records.Records,
  order: Sequence[int],
  corrupt: set[int],
  clock: StageClock,
) -> Iterator[np.ndarray]:
  """Yields images in `order`; adds indices of corrupt ones to `corrupt`."""
  for index in order:
    with clock("reading"):
      sample = data_records.read_sample(records[index])
    if sample.is_corrupt:
      corrupt.add(index)
      logging.error(
        "image %d (%s) cannot be decoded: counted as one without detections",
        sample.image_id,
        sample.file_name,
      )
    yield sample.image
