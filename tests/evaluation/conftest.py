"""Scenes of rectangles and detections of them with every kind of error."""

import numpy as np
import pytest

from solo_jax.evaluation import rle

HEIGHT, WIDTH = 60, 80


class Scenes:
  """Builds a COCO dataset and results of it, rectangle by rectangle."""

  def __init__(self, *class_names):
    names = class_names or ("cat", "dog")
    # Ids with a gap, so that they cannot be taken for labels.
    self.dataset = dict(
      images=[],
      annotations=[],
      categories=[dict(id=3 + 7 * k, name=n) for k, n in enumerate(names)],
    )
    self.results = []
    self._ids = {n: 3 + 7 * k for k, n in enumerate(names)}

  def image(self, image_id, **fields):
    self.dataset["images"].append(
      dict(
        id=image_id,
        file_name=f"{image_id}.png",
        height=HEIGHT,
        width=WIDTH,
        **fields,
      )
    )
    return self

  def truth(self, name, box, image_id=1, iscrowd=0):
    encoded, xywh, area = self._encode(box)
    self.dataset["annotations"].append(
      dict(
        id=len(self.dataset["annotations"]) + 100,
        image_id=image_id,
        category_id=self._ids[name],
        iscrowd=iscrowd,
        area=float(area),
        bbox=xywh,
        segmentation=encoded,
      )
    )
    return self

  def found(self, name, box, score, image_id=1):
    encoded, xywh, _ = self._encode(box)
    self.results.append(
      dict(
        image_id=image_id,
        category_id=self._ids[name],
        segmentation=encoded,
        bbox=xywh,
        score=score,
      )
    )
    return self

  def _encode(self, box):
    """Encodes (left, top, width, height)."""
    left, top, width, height = box
    mask = np.zeros((1, HEIGHT, WIDTH), bool)
    mask[0, top : top + height, left : left + width] = True
    (encoded,) = rle.encode(mask)
    return encoded, [float(x) for x in box], mask.sum()


@pytest.fixture(scope="session")
def scenes():
  """The class; tests are no package to import it from."""
  return Scenes
