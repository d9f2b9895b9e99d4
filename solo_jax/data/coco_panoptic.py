"""Builder of panoptic datasets in COCO's format: JSON and PNG files.

Sources: a folder laid out like COCO 2017, or a file of annotations, a folder of
PNG files and a folder of images for each split. Folders may be zip archives,
which are read in place. PNG files next to a classes.json are semantic label
images: they are joined with the instances of the file of annotations.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from solo_jax.data import builder, examples, joined_panoptic
from solo_jax.data.coco_file import Categories, parse, read_categories
from solo_jax.data.coco_images import ImageReader
from solo_jax.data.coco_instances import AnnotatedImages
from solo_jax.data.coco_values import is_int, read_ids, show
from solo_jax.data.file_names import NameFinder
from solo_jax.data.file_tree import FileTree
from solo_jax.data.findings import Findings
from solo_jax.data.panoptic_files import PanopticFiles
from solo_jax.data.panoptic_segments import (
  Segment,
  make_objects,
  read_segments,
)
from solo_jax.data.panoptic_segments import read_ids as read_segment_ids
from solo_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class PanopticImages:
  """A split whose segments are read image by image.

  Attributes:
    images: The images, without objects.
    files: The PNG files.
    names: PNG file of each image.
    segments: Entries of the JSON for the segments of each image.
  """

  images: AnnotatedImages
  files: FileTree
  names: Sequence[str]
  segments: Sequence[Sequence[Segment]]

  def __len__(self) -> int:
    return len(self.images)

  def __getitem__(self, index: int) -> tuple[bytes, examples.ImageRecord]:
    """Returns one image with its segments."""
    name, segments = self.names[index], self.segments[index]
    where = f"{self.files}: {name}"
    encoded, image = self.images[index]
    try:
      size = self.files.read_header(name).size
      if size != (image.height, image.width):
        raise UserError(
          f"has {size} pixels (height, width), its image "
          f"{(image.height, image.width)}"
        )
      ids = read_segment_ids(self.files.read(name))
    except UserError as error:
      kind = "panoptic PNG that cannot be used"
      raise examples.UnusableImage(
        kind, f"{where}: {error}.", len(segments)
      ) from error
    objects, notes = make_objects(ids, segments, index, where)
    return encoded, dataclasses.replace(image, objects=objects, notes=notes)


@dataclasses.dataclass(frozen=True)
class _Split:
  """What is known about a split before its PNG files are read."""

  images: examples.ImageSource
  categories: Categories
  is_thing: tuple[bool, ...]
  findings: Findings
  num_images: int
  num_segments: int
  num_segments_skipped: int


def _read_joined(files: PanopticFiles, exif_choice: str | None) -> _Split:
  """Returns a split of instances that are joined with label images."""
  found = joined_panoptic.read_split(
    files.annotations.read(files.name),
    files.name,
    files.images,
    files.segments,
    exif_choice,
  )
  read = found.annotations
  labels = {key: label for label, key in enumerate(found.category_ids)}
  return _Split(
    images=found.images,
    categories=Categories(labels, found.class_names, ()),
    is_thing=tuple(x in read.class_names for x in found.class_names),
    findings=read.findings,
    num_images=read.num_images,
    num_segments=read.num_annotations,
    num_segments_skipped=read.num_annotations_skipped
    + found.num_instances_without,
  )


def read_split(files: PanopticFiles, exif_choice: str | None = None) -> _Split:
  """Returns a split, its JSON checked against the names of its files.

  Args:
    files: Files of the split.
    exif_choice: One of `exif.CHOICES`; None ignores orientation tags and
      reports them.

  Raises:
    UserError: If the file is not a panoptic one.
  """
  if joined_panoptic.CLASSES in files.segments:
    return _read_joined(files, exif_choice)
  name, findings = files.name, Findings()
  if files.segments.is_copy:
    kind = "archive inside an archive, read from a temporary copy"
    findings.repairs.add(kind, f"{files.segments}")
  content = parse(files.annotations.read(name), name)
  items = [x for x in content["annotations"] if isinstance(x, dict)]
  if items and not any("segments_info" in item for item in items):
    raise UserError(
      f"{name} has no segments_info in its annotations, so it is not a COCO "
      "panoptic file. For instances use --dataset=coco_instances, or join them "
      "with label images, with a classes.json next to these."
    )
  categories = read_categories(content["categories"], name, findings)
  read_ids(content["images"], ("id",), name, findings)
  read_ids(items, ("image_id",), name, findings)
  images = ImageReader(
    name, files.images, categories.labels, exif_choice, findings
  ).read(content)
  of_image = _by_image(items, images, name, findings)
  finder, kept = NameFinder(files.segments), []
  for key, image in sorted(images.items()):
    found = image and _find_png(of_image.get(key), finder, name, key, findings)
    if found:
      where = f"{name}: image {key}"
      segments = read_segments(
        of_image[key]["segments_info"], categories.labels, where, findings
      )
      kept.append((_to_record(image), found, segments))
  records, names, segments = zip(*kept, strict=True) if kept else ((),) * 3
  counts = (item.get("segments_info") for item in items)
  num_segments = sum(len(x) for x in counts if isinstance(x, list))
  return _Split(
    PanopticImages(
      AnnotatedImages(records, files.images, exif_choice),
      files.segments,
      names,
      segments,
    ),
    categories,
    _read_things(content["categories"], segments, categories, name, findings),
    findings,
    len(content["images"]),
    num_segments,
    num_segments - sum(map(len, segments)),
  )


def _to_record(image: Mapping) -> examples.ImageRecord:
  return examples.ImageRecord(
    image_id=image["id"],
    file_name=image["file_name"],
    height=image["height"],
    width=image["width"],
    objects=(),
  )


def _by_image(
  items: Sequence[Mapping], images: Mapping, name: str, findings: Findings
) -> dict[int, Mapping]:
  """Returns the annotation of each image."""
  found = {}
  for item in items:
    key = item.get("image_id")
    if not is_int(key) or key not in images:
      kind = "annotation of an unknown image"
      detail = f"annotation with the unknown image_id {show(key)}"
      findings.problems.add(kind, f"{name}: {detail}.")
    elif key in found:
      kind = "image with a second annotation, which is skipped"
      findings.problems.add(kind, f"{name}: image {key}.")
    else:
      found[key] = item
  return found


def _find_png(
  item: Mapping | None,
  finder: NameFinder,
  name: str,
  key: int,
  findings: Findings,
) -> str | None:
  """Returns the PNG file of an image; counts one that is missing."""
  if item is None:
    kind = "image without an annotation"
    findings.problems.add(kind, f"{name}: image {key} has none.")
    return None
  try:
    if not isinstance(item.get("file_name"), str):
      raise UserError(f"its file_name is {show(item.get('file_name'))}")
    return finder.find(item["file_name"]).name
  except UserError as error:
    kind = "panoptic PNG that is not found"
    findings.problems.add(kind, f"{name}: image {key}: {error}.")
    return None


def _read_things(
  items: Sequence[Mapping],
  segments: Sequence[Sequence[Segment]],
  categories: Categories,
  name: str,
  findings: Findings,
) -> tuple[bool, ...]:
  """Returns whether each label is a thing."""
  # Ids may have been written as text, as labels are by increasing id.
  said = {categories.labels[int(x["id"])]: x.get("isthing") for x in items}
  several = np.zeros(len(categories.names), bool)
  for of_image in segments:
    found = [x.label for x in of_image if not x.is_crowd]
    several |= np.bincount(found, minlength=len(several)) > 1
  unsaid = [label for label, value in said.items() if value not in (0, 1)]
  if unsaid:
    findings.repairs.add_many(
      "category without isthing: a thing if an image has several of it",
      len(unsaid),
      f"{name}: category {show(categories.names[unsaid[0]])}",
    )
  return tuple(
    bool(several[label] if label in unsaid else said[label])
    for label in range(len(several))
  )


class CocoPanoptic(builder.RecordsBuilder):
  """Builder of panoptic datasets in COCO's format."""

  def __init__(
    self,
    *,
    data_dir: str,
    name: str = "2017",
    splits: Mapping[str, PanopticFiles],
    exif_choice: str | None = None,
    tolerance: builder.Tolerance = builder.TOLERANT,
  ):
    """Makes the builder.

    Args:
      data_dir: Directory of all prepared datasets.
      name: Name below `coco_panoptic`.
      splits: Files of each split.
      exif_choice: One of `exif.CHOICES`; None ignores orientation tags and
        reports them.
      tolerance: How many problems are tolerated.
    """
    super().__init__(data_dir=data_dir, name=name, tolerance=tolerance)
    self._files, self._exif = splits, exif_choice

  def read_splits(self, dl_manager) -> dict[str, PanopticImages]:
    """Returns the splits, with annotations checked."""
    del dl_manager  # nothing to download
    read = {}
    for split, files in self._files.items():
      self.announce(f"Reading {files.name} and checking it")
      read[split] = read_split(files, self._exif)
    first, *others = read.values()
    for split in others:
      if split.categories != first.categories:
        raise UserError(
          f"{', '.join(x.name for x in self._files.values())} must have the "
          "same categories."
        )
    # A class is a thing if it is one in any split.
    is_thing = tuple(
      map(any, zip(*(x.is_thing for x in read.values()), strict=True))
    )
    findings = Findings()
    for split in read.values():
      findings.extend(split.findings)
    self.describe(
      builder.Description(
        class_names=first.categories.names,
        category_ids=tuple(first.categories.labels),
        is_thing=is_thing,
        source=", ".join(str(x.segments) for x in self._files.values()),
        findings=findings,
        num_images=sum(split.num_images for split in read.values()),
        num_annotations=sum(split.num_segments for split in read.values()),
        num_images_skipped=sum(
          split.num_images - len(split.images) for split in read.values()
        ),
        num_annotations_skipped=sum(
          split.num_segments_skipped for split in read.values()
        ),
        exif=self._exif or "ignore",
      )
    )
    return {name: split.images for name, split in read.items()}
