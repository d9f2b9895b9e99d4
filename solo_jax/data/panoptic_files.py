"""Finds the files of panoptic datasets: JSON, PNG files and images.

Folders may be zip archives, which are read in place.
"""

import dataclasses
import pathlib

from solo_jax.data.file_tree import MAX_PIXELS, FileTree
from solo_jax.errors import UserError

_YEARS = {"train": "train2017", "validation": "val2017"}
# The official archive, which contains the archives of the PNG files.
_PACKED = "panoptic_annotations_trainval2017.zip"


@dataclasses.dataclass(frozen=True)
class PanopticFiles:
  """The files of a split.

  Attributes:
    annotations: Folder or archive with the annotation file.
    name: Name of the annotation file.
    segments: Folder or archive of the PNG files.
    images: Folder or archive of the images.
  """

  annotations: FileTree
  name: str
  segments: FileTree
  images: FileTree


def find_custom(
  annotations: str, segments: str, images: str, max_pixels: int = MAX_PIXELS
) -> PanopticFiles:
  """Returns a split given by its three parts.

  Args:
    annotations: Path of the JSON file.
    segments: Path of the folder or zip archive of the PNG files.
    images: Path of the folder or zip archive of the images.
    max_pixels: Images that declare more pixels are rejected.

  Returns:
    The split.

  Raises:
    UserError: If a part is missing.
  """
  path = pathlib.Path(annotations)
  if not path.is_file():
    raise UserError(f"{path}: no such annotation file.")
  return PanopticFiles(
    FileTree(path.parent),
    path.name,
    FileTree(segments, max_pixels),
    FileTree(images, max_pixels),
  )


def find_coco(
  source: str, max_pixels: int = MAX_PIXELS
) -> dict[str, PanopticFiles]:
  """Returns the splits of COCO 2017.

  Args:
    source: Folder with train2017, val2017 and annotations, the latter with
      panoptic_train2017.json, panoptic_train2017 and so on. Each may be a zip
      archive. For annotations it may be the official one, whose inner archives
      are read from temporary copies.
    max_pixels: Images that declare more pixels are rejected.

  Returns:
    The splits train and validation.

  Raises:
    UserError: If a part is missing; the message lists where it was searched.
  """
  root = pathlib.Path(source)

  def find(*names: str) -> FileTree:
    for name in names:
      if (root / name).exists():
        return FileTree(root / name, max_pixels)
    raise UserError(f"{root}: found none of {', '.join(names)}.")

  def find_segments(name: str, annotations: FileTree) -> FileTree:
    if f"{name}.zip" in annotations:
      return annotations.inner(f"{name}.zip")
    return find(
      *(f"{x}{name}{y}" for x in ("annotations/", "") for y in ("", ".zip"))
    )

  splits = {}
  for split, year in _YEARS.items():
    name = f"panoptic_{year}"
    annotations = find("annotations", _PACKED)
    # The folder may contain only the annotations of instances.
    if f"{name}.json" not in annotations and (root / _PACKED).exists():
      annotations = FileTree(root / _PACKED, max_pixels)
    if f"{name}.json" not in annotations:
      raise UserError(f"{annotations}: {name}.json is missing there.")
    splits[split] = PanopticFiles(
      annotations,
      f"{name}.json",
      find_segments(name, annotations),
      find(year, f"{year}.zip"),
    )
  return splits
