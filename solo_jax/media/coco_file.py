"""COCO annotation files, and the polygons in them."""

import json
import pathlib
from typing import Self

import cv2
import numpy as np


class CocoFile:
  """A COCO annotation file, written image by image.

  A long video thus need not fit into memory. Leaving the context finishes the
  file.
  """

  def __init__(
    self, path: pathlib.Path, categories: list[dict], videos: list[dict]
  ):
    """Stores what to write.

    Args:
      path: The file.
      categories: COCO categories.
      videos: Entries of videos, complete when the file is finished; without
        any, the file has no such list.
    """
    self._path = path
    self._categories = categories
    self._videos = videos
    self._images = []
    self._num_annotations = 0

  def __enter__(self) -> Self:
    """Returns this writer with its file open."""
    self._file = open(self._path, "w", encoding="utf-8")
    self._file.write('{"annotations": [')
    return self

  def add(self, image: dict, annotations: list[dict]) -> None:
    """Adds an image.

    Args:
      image: Its COCO entry.
      annotations: Its COCO annotations; ids are added.
    """
    self._images.append(image)
    for annotation in annotations:
      comma = ",\n" if self._num_annotations else "\n"
      self._num_annotations += 1
      annotation = dict(annotation, id=self._num_annotations)
      self._file.write(comma + json.dumps(annotation))

  def __exit__(self, *error) -> None:
    """Finishes the file."""
    rest = dict(images=self._images, categories=self._categories)
    if self._videos:
      rest["videos"] = self._videos
    self._file.write("\n],\n" + json.dumps(rest)[1:])
    self._file.close()


def to_polygons(
  rows: slice, columns: slice, mask: np.ndarray
) -> list[list[float]]:
  """Returns a mask's outline along pixel edges, as COCO polygons.

  COCO's polygons have no holes: they are filled.

  Args:
    rows: Rows of the mask in the image.
    columns: Columns of the mask in the image.
    mask: The mask there. [h, w] bool.

  Returns:
    x1, y1, x2, y2, ... of each part of the mask.
  """
  # At twice the size, the pixels on both sides of an edge are two apart.
  twice = mask.repeat(2, axis=0).repeat(2, axis=1).astype(np.uint8)
  outlines, _ = cv2.findContours(
    twice, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
  )
  corner = columns.start, rows.start
  return [
    ((outline[:, 0] + 1) // 2 + corner).astype(float).ravel().tolist()
    for outline in outlines
  ]


def area_of(polygons: list[list[float]]) -> float:
  """Returns the area inside the polygons of `to_polygons`, in pixels.

  Args:
    polygons: x1, y1, x2, y2, ... of each part; parts do not overlap.

  Returns:
    The sum of their areas (the shoelace formula).
  """
  area = 0.0
  for polygon in polygons:
    x, y = np.reshape(polygon, (-1, 2)).T
    area += abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
  return float(area)
