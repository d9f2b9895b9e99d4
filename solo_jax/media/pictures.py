"""Pictures of annotated images with their detections."""

import io
from collections.abc import Iterable, Sequence

import numpy as np
from absl import logging
from PIL import Image

from solo_jax import types, visualization
from solo_jax.data import records as data_records
from solo_jax.data import transforms
from solo_jax.evaluation import rle
from solo_jax.evaluation.report import Pictures

MAX_SIDE = 900  # pixels of a picture in a report
# Pixels of all masks that a picture draws at once, one byte each.
MAX_PICTURE_PIXELS = 2**30


def draw_images(
  records: data_records.Records,
  results: Sequence[dict],
  image_ids: Iterable[int],
  *,
  score_threshold: float,
) -> dict[int, Pictures]:
  """Returns pictures of truth and detections for a report.

  Args:
    records: The split.
    results: COCO results of the split.
    image_ids: Images to draw.
    score_threshold: Detections of a lower score are left out.

  Returns:
    The pictures by image id.
  """
  found = {image_id: [] for image_id in image_ids}
  for result in results:
    if result["image_id"] in found and result["score"] >= score_threshold:
      found[result["image_id"]].append(result)
  pictures = {}
  for image_id, of_image in found.items():
    (index,) = np.flatnonzero(records.image_ids == image_id)
    sample = data_records.read_sample(records[index])
    image = transforms.to_uint8(sample.image)
    pictures[image_id] = Pictures(
      name=sample.file_name,
      truth=_to_jpeg(
        visualization.draw_instances(
          image, truth_of(sample), records.class_names, show_scores=False
        )
      ),
      found=_to_jpeg(
        visualization.draw_instances(
          image,
          _to_instances(of_image, records, sample),
          records.class_names,
        )
      ),
    )
  return pictures


def truth_of(sample: types.Sample) -> types.Instances:
  """Returns the annotated objects as instances, crowds left out.

  Args:
    sample: A sample in its original frame.

  Returns:
    Instances of score 1, limited to those that fit into memory.
  """
  kept = np.flatnonzero(~sample.is_crowd)
  kept = kept[: _count_drawn(len(kept), sample, "annotated objects")]
  return types.Instances(
    masks=sample.masks[kept],
    scores=np.ones(len(kept), np.float32),
    labels=sample.labels[kept],
    boxes_xyxy=sample.boxes_xyxy[kept].astype(np.float32),
  )


def _to_instances(
  results: Sequence[dict],
  records: data_records.Records,
  sample: types.Sample,
) -> types.Instances:
  """Returns the decoded results of one image, the best that fit into memory."""
  results = sorted(results, key=lambda result: -result["score"])
  results = results[: _count_drawn(len(results), sample, "detections")]
  encoded = [result["segmentation"] for result in results]
  return types.Instances(
    masks=rle.decode(encoded, sample.original_size),
    scores=np.array([result["score"] for result in results], np.float32),
    labels=np.array(
      [records.category_ids.index(result["category_id"]) for result in results],
      np.int32,
    ),
    boxes_xyxy=rle.boxes(encoded),  # masks are drawn, predicted boxes are not
  )


def _count_drawn(number: int, sample: types.Sample, what: str) -> int:
  """Returns the number of instances that fit into memory; logs the rest."""
  height, width = sample.original_size
  fitting = MAX_PICTURE_PIXELS // (height * width)
  if number > fitting:
    logging.error(
      "the picture of %s shows the first %d of %d %s, as many as fit into "
      "memory; the metrics have all",
      sample.file_name,
      fitting,
      number,
      what,
    )
  return min(number, fitting)


def _to_jpeg(picture: np.ndarray) -> bytes:
  """Returns an RGB picture as JPEG, shrunk if it is large."""
  image = Image.fromarray(picture)
  image.thumbnail((MAX_SIDE, MAX_SIDE))
  file = io.BytesIO()
  image.save(file, "JPEG", quality=85)
  return file.getvalue()
