"""A small panoptic dataset as files, laid out like COCO 2017."""

import json

import cv2
import numpy as np

from solo_jax.data.panoptic_segments import to_colors

# Two things (ids 70000 and 3) on stuff of which one column is void.
IDS = np.array([[0, 9, 70000, 70000], [0, 9, 9, 3]])
SEGMENTS = [
  dict(id=9, category_id=92, area=3),
  dict(id=70000, category_id=1, area=2),
  dict(id=3, category_id=1, area=1),
]
CATEGORIES = [
  dict(id=92, name="grass", isthing=0),
  dict(id=1, name="person", isthing=1),
]


def write_panoptic(root, scale=1):
  """Writes two images for each split.

  Args:
    root: Folder to make.
    scale: Pixels along a side for each of IDS.

  Returns:
    The folder.
  """
  ids = IDS.repeat(scale, 0).repeat(scale, 1)
  height, width = ids.shape
  segments = [dict(x, area=x["area"] * scale**2) for x in SEGMENTS]
  for year in ("train2017", "val2017"):
    png = root / "annotations" / f"panoptic_{year}"
    for folder in (root / year, png):
      folder.mkdir(parents=True)
    images, annotations = [], []
    for key in (7, 8):
      image = np.zeros((height, width, 3), np.uint8)
      cv2.imwrite(str(root / year / f"{key}.jpg"), image)
      cv2.imwrite(str(png / f"{key}.png"), to_colors(ids)[..., ::-1])
      name = f"{key}.jpg"
      images.append(dict(id=key, file_name=name, height=height, width=width))
      annotations.append(
        dict(image_id=key, file_name=f"{key}.png", segments_info=segments)
      )
    content = dict(
      images=images, annotations=annotations, categories=CATEGORIES
    )
    png.with_suffix(".json").write_text(json.dumps(content))
  return root
