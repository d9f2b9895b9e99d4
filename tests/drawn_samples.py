"""Samples as they are after rendering, for transforms that mix images."""

import numpy as np

from solo_jax.types import CroppedMasks, Sample


def make_drawn(grey, boxes, size=(32, 40), crowds=(), first_id=0):
  """A drawn sample with filled boxes (x1, y1, x2, y2), whole pixels."""
  corners = [(top, left) for left, top, _, _ in boxes]
  crops = [np.ones((b - t, r - x), bool) for x, t, r, b in boxes]
  is_crowd = np.zeros(len(boxes), bool)
  is_crowd[list(crowds)] = True
  return Sample(
    image=np.full((*size, 3), grey, np.uint8),
    masks=CroppedMasks(size=size, corners=corners, crops=crops),
    labels=first_id + np.arange(len(boxes), dtype=np.int32),
    areas=np.array([crop.sum() for crop in crops], np.float64),
    boxes_xyxy=np.array(boxes, np.float64).reshape(-1, 4),
    is_crowd=is_crowd,
    annotation_ids=first_id + np.arange(len(boxes)),
    image_id=first_id,
    file_name=f"{first_id}.png",
    original_size=size,
    affine=np.eye(2, 3),
    image_size=size,
  )
