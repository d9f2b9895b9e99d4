"""Instances of a COCO file and semantic label images, joined to segments.

The rule, for each image:

1. Instances are in front of everything else; where several overlap, the
   smallest is in front. Crowds are behind all other instances.
2. A pixel without an instance belongs to the class of its label if that is
   stuff: a class of classes.json that is not a category of the JSON file.
3. All other pixels are void, including those labelled as a thing that no
   instance covers.

The id of a stuff class is its value plus the largest category id plus 1.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from pycocotools import mask as coco_mask

from solo_jax.data import examples
from solo_jax.data.annotations import Annotations, read_annotations
from solo_jax.data.coco_instances import AnnotatedImages
from solo_jax.data.file_names import NameFinder
from solo_jax.data.file_tree import FileTree, split_suffix
from solo_jax.data.label_files import read_label_image
from solo_jax.data.label_pieces import encode_labels
from solo_jax.data.panoptic_segments import MAX_ID
from solo_jax.data.semantic_images import parse_classes
from solo_jax.errors import UserError

CLASSES = "classes.json"  # among the label images


@dataclasses.dataclass(frozen=True, kw_only=True)
class JoinedSplit:
  """A split of joined annotations.

  Attributes:
    images: The images, read one by one.
    annotations: The instances that were found.
    class_names: Name of each label: things, then stuff.
    category_ids: Id of each label.
    num_instances_without: Instances in images that are skipped, as they have no
      label image.
  """

  images: "JoinedImages"
  annotations: Annotations
  class_names: tuple[str, ...]
  category_ids: tuple[int, ...]
  num_instances_without: int


@dataclasses.dataclass(frozen=True)
class JoinedImages:
  """Images whose segments are joined when they are read.

  Attributes:
    images: Images with instances.
    files: The label images.
    names: Label image of each image.
    stuff: Label of each value that is a class of stuff.
    others: Values that are things or void.
  """

  images: AnnotatedImages
  files: FileTree
  names: Sequence[str]
  stuff: Mapping[int, int]
  others: frozenset[int]

  def __len__(self) -> int:
    return len(self.images)

  def __getitem__(self, index: int) -> tuple[bytes, examples.ImageRecord]:
    """Returns one image with its segments."""
    name = self.names[index]
    encoded, image = self.images[index]
    where = f"{self.files}: {name}"
    try:
      self.files.read_header(name)  # refuses too many pixels
      values, _ = read_label_image(self.files.read(name))
      if values.shape != (image.height, image.width):
        raise UserError(
          f"has {values.shape} pixels (height, width), its image "
          f"{(image.height, image.width)}"
        )
      unknown = set(np.unique(values).tolist()) - self.others - set(self.stuff)
      if unknown:
        listed = ", ".join(map(str, sorted(unknown)[:10]))
        raise UserError(f"has the values {listed}; {CLASSES} lacks them")
    except UserError as error:
      raise examples.UnusableImage(
        "label image that cannot be used",
        f"{where}: {error}.",
        len(image.objects),
      ) from error
    objects = join(image.objects, values, self.stuff, index)
    hidden = len(image.objects) - sum(
      x.label not in self.stuff.values() for x in objects
    )
    notes = [*image.notes]
    if hidden:
      kind = "instance behind smaller ones, without a pixel, skipped"
      notes.append((kind, f"{where}: {hidden} instances"))
    return encoded, dataclasses.replace(image, objects=objects, notes=notes)


def join(
  instances: Sequence[examples.ObjectRecord],
  values: np.ndarray,
  stuff: Mapping[int, int],
  image_number: int,
) -> list[examples.ObjectRecord]:
  """Returns the disjoint segments of an image by the rule of this file.

  Args:
    instances: Its instances.
    values: Its label image. [H, W] int64.
    stuff: Label of each value that is a class of stuff.
    image_number: Number of the image in its split, for annotation ids as in
      `panoptic_segments.make_objects`.

  Returns:
    The instances that are visible, then stuff by increasing value.
  """
  ids = np.zeros(values.shape, np.int64)
  for number, value in enumerate(stuff):
    ids[values == value] = len(instances) + 1 + number
  size = list(values.shape)
  masks = [
    coco_mask.decode(dict(size=size, counts=x.rle)) > 0 for x in instances
  ]
  from_back = sorted(
    range(len(instances)),
    key=lambda i: (not instances[i].is_crowd, -masks[i].sum()),
  )
  for i in from_back:
    ids[masks[i]] = i + 1
  labels = [*(x.label for x in instances), *stuff.values()]
  return [
    examples.ObjectRecord(
      annotation_id=image_number * (MAX_ID + 1) + key,
      label=labels[key - 1],
      is_crowd=key <= len(instances) and instances[key - 1].is_crowd,
      rle=rle["counts"],
      area=float(coco_mask.area(rle)),
      box_xywh=tuple(coco_mask.toBbox(rle)),
    )
    for key, rle in encode_labels(ids).items()
  ]


def read_split(
  text: bytes,
  name: str,
  images: FileTree,
  labels: FileTree,
  exif_choice: str | None,
) -> JoinedSplit:
  """Returns a split, its names checked; label images are read later.

  Args:
    text: Content of the COCO file of instances.
    name: Its name, for messages.
    images: The images.
    labels: Label images, each named like its image but for the suffix, and
      classes.json, see `semantic_images`.
    exif_choice: One of `exif.CHOICES`; None ignores orientation tags and
      reports them.

  Returns:
    The split.

  Raises:
    UserError: If the file of instances or classes.json cannot be read, or all
      classes are things.
  """
  found = read_annotations(text, name, images, exif_choice)
  table = parse_classes(labels.read(CLASSES), f"{labels}/{CLASSES}")
  stuff = {v: x for v, x in table.items() if x and x not in found.class_names}
  if not stuff:
    raise UserError(
      f"{labels}: {CLASSES} has no class of stuff: each is a category of {name}"
    )
  first = 1 + max(found.category_ids, default=0)
  finder, kept = NameFinder(labels), []
  for image in found.images:
    try:
      stem = split_suffix(image.file_name)[0]
      kept.append((image, finder.find(f"{stem}.png").name))
    except UserError as error:
      kind = "label image that is not found"
      found.findings.problems.add(
        kind, f"{name}: image {image.image_id}: {error}."
      )
  records, names = zip(*kept, strict=True) if kept else ((), ())
  used = {image.image_id for image in records}
  skipped = [x for x in found.images if x.image_id not in used]
  return JoinedSplit(
    images=JoinedImages(
      AnnotatedImages(records, images, exif_choice),
      labels,
      names,
      {value: len(found.class_names) + i for i, value in enumerate(stuff)},
      frozenset(table) - frozenset(stuff),
    ),
    annotations=found,
    class_names=(*found.class_names, *stuff.values()),
    category_ids=(*found.category_ids, *(first + value for value in stuff)),
    num_instances_without=sum(len(x.objects) for x in skipped),
  )
