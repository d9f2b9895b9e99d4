"""Reading and checking COCO annotation files.

A problem with an image or an annotation is reported with the file, the image id
and the annotation id; the item is skipped and the rest is kept. The mask is
authoritative: fields derived from it, such as box and area, are recomputed if
they are wrong. Exporters' deviations from COCO's format are accepted if they
are unambiguous, and counted.
"""

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pycocotools import mask as coco_mask

from solo_jax.data.coco_file import parse, read_categories
from solo_jax.data.coco_images import ImageReader
from solo_jax.data.coco_values import (
  id_problem,
  is_int,
  is_number,
  read_ids,
  show,
  to_int,
)
from solo_jax.data.examples import ImageRecord, ObjectRecord
from solo_jax.data.file_tree import FileTree
from solo_jax.data.findings import Findings
from solo_jax.data.segmentations import Unreadable, read_segmentation

# Boxes are rounded when written, so this many pixels outside the image are
# tolerated.
_BOX_TOLERANCE = 1.0


@dataclasses.dataclass(frozen=True)
class Annotations:
  """The checked contents of a COCO annotation file.

  Attributes:
    images: Images by increasing id, with and without objects.
    class_names: Name of each label, by increasing category id.
    category_ids: Original id of each label.
    findings: What was skipped, repaired or looks odd.
    num_images: Images in the file, including those skipped.
    num_annotations: Annotations in the file, including those skipped.
    num_images_skipped: Images skipped.
    num_annotations_skipped: Annotations skipped, including those skipped with
      their image.
    class_frequencies: LVIS's frequency of each label ('r', 'c' or 'f'); empty
      if the categories have none.
  """

  images: Sequence[ImageRecord]
  class_names: tuple[str, ...]
  category_ids: tuple[int, ...]
  findings: Findings
  num_images: int
  num_annotations: int
  num_images_skipped: int
  num_annotations_skipped: int
  class_frequencies: Sequence[str] = ()


class _ObjectReader:
  """Reads the annotations of one file."""

  def __init__(self, name: str, labels: Mapping[int, int], findings: Findings):
    self._name, self._labels, self._findings = name, labels, findings

  def read(
    self, items: Sequence, images: Mapping[int, Mapping | None]
  ) -> dict[int, list[ObjectRecord]]:
    """Returns the valid objects of each image by image id."""
    objects = collections.defaultdict(list)
    ids = _number_those_without(items)
    if ids:
      self._findings.repairs.add_many(
        "annotation without an id, numbered",
        len(ids),
        f"{self._name}: annotation {ids[0]}",
      )
    seen = {}
    for item in items:
      problem = id_problem(item, seen)
      if problem:
        image_id = item.get("image_id") if isinstance(item, dict) else None
        self._findings.problems.add(
          "annotation without an id of its own",
          f"{self._name}: image {show(image_id)}: annotation {problem}.",
        )
        continue
      seen[item["id"]] = True
      image_id = item.get("image_id")
      is_known = is_int(image_id) and image_id in images
      if is_known and images[image_id] is None:
        continue  # skipped with its image
      image = images[image_id] if is_known else None
      if made := self._read_object(item, image):
        objects[image_id].append(made)
    return objects

  def _read_object(
    self, item: Mapping, image: Mapping | None
  ) -> ObjectRecord | None:
    """Returns a valid object, None if there is a problem; counts problems."""
    where = (
      f"{self._name}: image {show(item.get('image_id'))}: annotation "
      f"{item['id']}"
    )
    found = list(_check_fields(item, image, self._labels))
    if image:
      size = [image["height"], image["width"]]
      try:
        mask = read_segmentation(item.get("segmentation"), size)
      except Unreadable as error:
        found.append(_name_without_mask(item, size, error))
    for kind, detail in found:
      self._findings.problems.add(kind, f"{where} {detail}.")
    if found:
      return None
    box, box_repair = _read_box(item.get("bbox"), size, mask.rle)
    area, area_repair = _read_area(item.get("area"), mask.rle)
    for repair in filter(None, (*mask.repairs, box_repair, area_repair)):
      self._findings.repairs.add(repair, where)
    return ObjectRecord(
      annotation_id=item["id"],
      label=self._labels[item["category_id"]],
      is_crowd=bool(to_int(int(item.get("iscrowd") or 0))),
      rle=mask.rle["counts"],
      area=area,
      box_xywh=box,
    )


def _number_those_without(items: Sequence) -> list[int]:
  """Returns the new ids given to annotations without one."""
  used = {x["id"] for x in items if isinstance(x, dict) and is_int(x.get("id"))}
  next_id, made = max(used, default=0) + 1, []
  for item in items:
    if isinstance(item, dict) and item.get("id") is None and is_int(next_id):
      item["id"] = next_id
      made.append(next_id)
      next_id += 1
  return made


def _check_fields(
  item: Mapping, image: Mapping | None, labels: Mapping
) -> Iterator[tuple[str, str]]:
  """Yields the problems of an annotation, except those of its mask."""
  category_id = item.get("category_id")
  if not is_int(category_id) or category_id not in labels:
    kind = "annotation of an unknown category"
    yield kind, f"has the unknown category_id {show(category_id)}"
  if item.get("iscrowd") not in (None, 0, 1, "0", "1"):
    kind = "annotation whose iscrowd is neither 0 nor 1"
    yield kind, f"has iscrowd {show(item['iscrowd'])}; need 0 or 1"
  if image is None:
    kind = "annotation of an unknown image"
    yield kind, f"has the unknown image_id {show(item.get('image_id'))}"


def _name_without_mask(
  item: Mapping, size: list[int], error: Unreadable
) -> tuple[str, str]:
  """Returns the problem of a mask, a special one if there is only a box."""
  is_empty = item.get("segmentation") in (None, [], [[]], {}, "")
  if not is_empty or _box_problem(item.get("bbox"), size):
    return error.kind, str(error)
  return (
    "box without a mask: boxes are not enough to learn masks from",
    f"has a box but no mask (segmentation {show(item.get('segmentation'))}); "
    "need polygons or an RLE",
  )


def _box_problem(box: Any, size: list[int]) -> str | None:
  """Returns the problem of a box, None if it is valid."""
  if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
    return "box that is not four numbers"
  x, y, width, height = box
  if width <= 0 or height <= 0:
    return "box without extent"
  beyond = max(-x, -y, x + width - size[1], y + height - size[0])
  return "box outside its image" if beyond > _BOX_TOLERANCE else None


def _read_box(
  box: Any, size: list[int], rle: Mapping
) -> tuple[tuple[float, ...], str | None]:
  """Returns the box, recomputed from the mask if invalid, and its problem."""
  problem = None if box is None else _box_problem(box, size)
  if box is None or problem:
    repair = f"{problem}, made from its mask" if problem else None
    return tuple(coco_mask.toBbox(rle)), repair
  return tuple(box), None


def _read_area(area: Any, rle: Mapping) -> tuple[float, str | None]:
  """Returns the area; some exports write negative values for unknown."""
  if is_number(area) and area > 0:
    return float(area), None
  is_wrong = area is not None and not (is_number(area) and area < 0)
  repair = "area that is not a number above 0, made from its mask"
  return float(coco_mask.area(rle)), repair if is_wrong else None


def read_annotations(
  text: bytes, name: str, files: FileTree, exif_choice: str | None = None
) -> Annotations:
  """Returns the checked annotations of a file and its images.

  Missing areas, boxes and iscrowd are filled in, negative areas recomputed.

  Args:
    text: Content of the JSON file.
    name: Its name, for messages.
    files: The images.
    exif_choice: One of `exif.CHOICES`; None ignores orientation tags and
      reports them.

  Returns:
    The valid annotations and what was found.

  Raises:
    UserError: If this is not a COCO instances file.
  """
  content, findings = parse(text, name), Findings()
  categories = read_categories(content["categories"], name, findings)
  read_ids(content["images"], ("id",), name, findings)
  fields = ("id", "image_id", "category_id")
  read_ids(content["annotations"], fields, name, findings)
  images = ImageReader(
    name, files, categories.labels, exif_choice, findings
  ).read(content)
  objects = _ObjectReader(name, categories.labels, findings).read(
    content["annotations"], images
  )
  records = [
    ImageRecord(
      image_id=key,
      file_name=image["file_name"],
      height=image["height"],
      width=image["width"],
      objects=objects[key],
      neg_category_ids=image.get("neg_category_ids"),
      not_exhaustive_category_ids=image.get("not_exhaustive_category_ids", ()),
    )
    for key, image in sorted(images.items())
    if image
  ]
  num_objects = sum(len(record.objects) for record in records)
  return Annotations(
    images=records,
    class_names=categories.names,
    category_ids=tuple(categories.labels),
    findings=findings,
    num_images=len(content["images"]),
    num_annotations=len(content["annotations"]),
    num_images_skipped=len(content["images"]) - len(records),
    num_annotations_skipped=len(content["annotations"]) - num_objects,
    class_frequencies=categories.frequencies,
  )
