"""Pictures of annotated images with their detections."""

import io
from collections.abc import Iterable

import numpy as np
from absl import logging
from PIL import Image

from solo_jax import types, visualization
from solo_jax.data import records as data_records
from solo_jax.data import transforms
from solo_jax.evaluation.report_images import Picture, Shown
from solo_jax.media.outlines import trace

# Pixels of a picture in a report: of those that are looked at first, and of the
# others.
MAX_SIDE, SMALL_SIDE = 900, 360
# Pixels of all masks that a picture draws at once, one byte each.
MAX_PICTURE_PIXELS = 2**30


def draw_images(
  records: data_records.Records, shown: Iterable[Shown]
) -> dict[int, Picture]:
  """Returns images of a split with their masks traced, for a report.

  Args:
    records: The split.
    shown: Images of the report.

  Returns:
    The pictures by image id.
  """
  index_of = {int(key): i for i, key in enumerate(records.image_ids)}
  pictures = {}
  for image in shown:
    sample = data_records.read_sample(records[index_of[image.image_id]])
    unit = max(
      1, round(visualization.MIN_LONG_SIDE / max(sample.original_size))
    )
    pictures[image.image_id] = Picture(
      name=sample.file_name,
      jpeg=_to_jpeg(
        transforms.to_uint8(sample.image),
        MAX_SIDE if image.is_large else SMALL_SIDE,
      ),
      unit=unit,
      objects=trace(image.objects, sample.original_size, unit),
      found=trace(image.found, sample.original_size, unit),
    )
  return pictures


def palette() -> list[str]:
  """Returns the colours of instances, the last for those without an object."""
  colors = [*visualization.PALETTE.colors, visualization.UNMATCHED]
  return [color.as_hex() for color in colors]


def truth_of(sample: types.Sample) -> types.Instances:
  """Returns the annotated objects as instances, crowds left out.

  Args:
    sample: A sample in its original frame.

  Returns:
    Instances of score 1, limited to those that fit into memory.
  """
  kept = np.flatnonzero(~sample.is_crowd)
  kept = kept[: _count_drawn(len(kept), sample)]
  return types.Instances(
    masks=sample.masks[kept],
    scores=np.ones(len(kept), np.float32),
    labels=sample.labels[kept],
    boxes_xyxy=sample.boxes_xyxy[kept].astype(np.float32),
  )


def _count_drawn(number: int, sample: types.Sample) -> int:
  """Returns the number of objects that fit into memory; logs the rest."""
  height, width = sample.original_size
  fitting = MAX_PICTURE_PIXELS // (height * width)
  if number > fitting:
    logging.error(
      "the picture of %s shows the first %d of %d annotated objects, as many "
      "as fit into memory; the metrics have all",
      sample.file_name,
      fitting,
      number,
    )
  return min(number, fitting)


def _to_jpeg(picture: np.ndarray, side: int) -> bytes:
  """Returns an RGB picture as JPEG, shrunk if it is large."""
  image = Image.fromarray(picture)
  is_whole = max(image.size) <= SMALL_SIDE
  image.thumbnail((side, side), reducing_gap=2.0)
  file = io.BytesIO()
  # Small images are shown enlarged, and so are the blocks of JPEG.
  quality = dict(quality=92, subsampling=0) if is_whole else dict(quality=80)
  image.save(file, "JPEG", **quality)
  return file.getvalue()
