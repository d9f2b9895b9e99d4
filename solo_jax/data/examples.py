"""The images and objects that a dataset provides, one by one."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectRecord:
  """One annotated object, as builders provide it.

  Attributes:
    annotation_id: Id in the source, unique within the split.
    label: Class, 0..K-1.
    is_crowd: COCO's iscrowd.
    rle: COCO compressed counts of the visible pixels at original size.
    area: Annotated area in pixels.
    box_xywh: Annotated box in continuous pixels.
  """

  annotation_id: int
  label: int
  is_crowd: bool
  rle: bytes
  area: float
  box_xywh: tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageRecord:
  """One image with its objects, without the pixels.

  Attributes:
    image_id: Id in the source, unique within the split.
    file_name: Name in the source, for messages.
    height: Height in pixels.
    width: Width in pixels.
    objects: The objects; empty for an image without any.
    neg_category_ids: In a federated dataset (LVIS), categories verified to be
      absent. None if every category is annotated in every image.
    not_exhaustive_category_ids: In a federated dataset, categories of which
      only some objects are annotated.
    notes: (kind, line) of its findings, see `findings.Tally.add`.
  """

  image_id: int
  file_name: str
  height: int
  width: int
  objects: Sequence[ObjectRecord]
  neg_category_ids: Sequence[int] | None = None
  not_exhaustive_category_ids: Sequence[int] = ()
  notes: Sequence[tuple[str, str]] = ()


class UnusableImage(Exception):
  """A problem with an image, which is counted and skipped."""

  def __init__(self, kind: str, problem: str, num_annotations: int):
    """Makes the error.

    Args:
      kind: The problem, in the same words for all of its kind.
      problem: One line that names the file.
      num_annotations: Annotations that are skipped with the image.
    """
    super().__init__(problem)
    self.kind = kind
    self.num_annotations = num_annotations


class ImageSource(Protocol):
  """A split, as a builder reads it."""

  def __len__(self) -> int:
    """Returns the number of images."""

  def __getitem__(self, index: int) -> tuple[bytes, ImageRecord]:
    """Returns one image as the bytes of a JPEG or PNG file, and the rest.

    Raises:
      UnusableImage: If its file is damaged or of the wrong kind.
    """


def to_example(encoded: bytes, image: ImageRecord) -> dict[str, Any]:
  """Returns the values of a record, by the names of `make_features`."""
  return {
    "image": encoded,
    "image_id": image.image_id,
    "file_name": image.file_name,
    "height": image.height,
    "width": image.width,
    "objects": [
      {
        "annotation_id": item.annotation_id,
        "label": item.label,
        "is_crowd": item.is_crowd,
        "rle": item.rle,
        "area": np.float64(item.area).tobytes(),
        "bbox": np.asarray(item.box_xywh, np.float64).tobytes(),
      }
      for item in image.objects
    ],
  }
