import json
import types

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from solo_jax.data.annotations import read_annotations
from solo_jax.data.file_tree import FileTree

HEIGHT, WIDTH = 20, 30


def _ring():
  """A square with a hole, which only an RLE can represent."""
  mask = np.zeros((HEIGHT, WIDTH), np.uint8)
  mask[4:12, 5:15] = 1
  mask[6:9, 8:11] = 0
  return mask


def _runs(mask):
  """Run lengths down the columns, the first of zeros; written independently."""
  runs, last = [0], 0
  for value in mask.T.ravel():
    if value != last:
      runs.append(0)
      last = value
    runs[-1] += 1
  return [int(x) for x in runs]


def _segmentations():
  ring = _ring()
  compressed = coco_mask.encode(np.asfortranarray(ring))["counts"].decode()
  size = [HEIGHT, WIDTH]
  return {
    "polygon": [[2.0, 3.0, 12.5, 3.0, 12.5, 9.25, 2.0, 9.25]],
    "parts": [[1, 1, 6, 1, 6, 6], [20, 10, 28, 10, 28, 18, 20, 18]],
    "runs": {"size": size, "counts": _runs(ring)},
    "compressed": {"size": size, "counts": compressed},
  }


@pytest.fixture
def tiny_coco():
  """Content of a COCO file with every form of segmentation.

  Images 7 and 3 (in this order), 3 without objects; ids with gaps.
  """
  images = [
    dict(id=key, file_name=f"{key}.png", height=HEIGHT, width=WIDTH)
    for key in (7, 3)
  ]
  forms = _segmentations()
  common = dict(image_id=7, category_id=44)
  annotations = [
    # area, iscrowd and box as given; a value float32 cannot hold
    dict(id=90, segmentation=forms["polygon"], area=61.1, iscrowd=0, **common)
    | dict(bbox=[2.1, 3.0, 10.4, 6.25]),
    dict(id=12, segmentation=forms["parts"], area=-1, **common),
    dict(id=13, segmentation=forms["compressed"], **common)
    | dict(category_id=2),
    dict(id=14, segmentation=forms["runs"], iscrowd=1, **common),
  ]
  categories = [dict(id=44, name="cup"), dict(id=2, name="cat")]
  return dict(images=images, annotations=annotations, categories=categories)


@pytest.fixture
def write_coco(tiny_coco):
  """Writes `tiny_coco` and its images: grey image 3, colour image 7."""

  def write(annotations, images, content=tiny_coco):
    annotations.parent.mkdir(parents=True, exist_ok=True)
    images.mkdir(parents=True, exist_ok=True)
    annotations.write_text(json.dumps(content))
    rng = np.random.default_rng(0)
    for key, channels in ((7, 3), (3, 1)):
      shape = (HEIGHT, WIDTH, channels)
      cv2.imwrite(
        str(images / f"{key}.png"), rng.integers(0, 255, shape, np.uint8)
      )
    return content

  return write


@pytest.fixture
def ring_mask():
  return _ring().astype(bool)


@pytest.fixture
def image_size():
  return types.SimpleNamespace(height=HEIGHT, width=WIDTH)


@pytest.fixture
def read(tmp_path, write_coco, tiny_coco):
  """Writes changed content and reads it; `change` edits it in place."""

  def run(change=lambda content: None):
    change(tiny_coco)
    write_coco(tmp_path / "a.json", tmp_path / "images", tiny_coco)
    text = (tmp_path / "a.json").read_bytes()
    return read_annotations(text, "a.json", FileTree(tmp_path / "images"))

  return run
