"""Reading and checking COCO annotation files.

Every problem becomes one line naming the file, the image id and the
annotation id; what it concerns is left out, the rest is kept.
"""

import collections
import dataclasses
import json
import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from solo_jax.data.builder import ImageRecord, ObjectRecord
from solo_jax.data.file_tree import FileTree, is_outside, is_text
from solo_jax.data.records import FEDERATED_FIELDS
from solo_jax.errors import UserError

# Boxes are written with rounding; only beyond this many pixels are they
# outside the image.
_BOX_TOLERANCE = 1.0
# Rasterising a polygon takes 43 bytes for each pixel of its outline; this long
# is that of a comb whose teeth of one pixel fill an image of 2,000 x 2,000.
_MAX_OUTLINE = 2**22
# Characters of a number of a compressed RLE: six hold what runs of
# file_tree.PIXELS_LIMIT pixels need, and pycocotools misreads the eighth.
_MAX_CHARACTERS = 7
# Messages show the beginning of what was found; it may be of any size.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_show = _SHORT.repr


@dataclasses.dataclass(frozen=True)
class Annotations:
  """What a COCO annotation file says.

  Attributes:
    images: Images by rising id, with and without objects.
    class_names: Name of each label, by rising category id.
    category_ids: Original id of each label.
    problems: One line for each thing left out.
    num_images_skipped: Images left out.
    num_annotations_skipped: Annotations left out, also with their image.
    class_frequencies: LVIS's frequency of each label ('r', 'c' or 'f'); empty
      if the categories have none.
  """

  images: Sequence[ImageRecord]
  class_names: tuple[str, ...]
  category_ids: tuple[int, ...]
  problems: Sequence[str]
  num_images_skipped: int
  num_annotations_skipped: int
  class_frequencies: Sequence[str] = ()


def _is_int(value: Any) -> bool:
  """Tells whether a value is an integer of 64 bits, as records hold them."""
  is_int = isinstance(value, int) and not isinstance(value, bool)
  return is_int and -(2**63) <= value < 2**63


def _is_number(value: Any) -> bool:
  """Tells whether a value is a finite number of 64 bits."""
  return _is_int(value) or isinstance(value, float) and math.isfinite(value)


def _decode_counts(text: str) -> list[int]:
  """Decodes COCO's compressed run lengths; raises ValueError if malformed.

  Six-bit characters from '0' on: five bits of a number, low first, and one
  that says whether it goes on; from the fourth number on, the difference to
  the one before the last.
  """
  counts, value, shift = [], 0, 0
  for character in text:
    bits = ord(character) - 48
    if not 0 <= bits < 64:
      raise UserError(f"character {character!r}")
    value |= (bits & 31) << shift
    shift += 5
    if bits & 32:
      if shift == 5 * _MAX_CHARACTERS:
        raise UserError(f"a number of more than {_MAX_CHARACTERS} characters")
      continue
    if bits & 16:
      value |= -1 << shift
    counts.append(value + counts[-2] if len(counts) > 2 else value)
    value = shift = 0
  if shift:
    raise UserError("an unfinished number")
  return counts


def _check_rle(segmentation: Mapping, size: list[int]) -> Iterator[str]:
  if segmentation.get("size") != size:
    yield (
      f"has an RLE of size {_show(segmentation.get('size'))}; its image is "
      f"{size} (height, width)"
    )
    return
  counts, num_pixels = segmentation.get("counts"), size[0] * size[1]
  try:
    runs = _decode_counts(counts) if isinstance(counts, str) else counts
  except (UserError, ValueError) as error:
    yield f"has a compressed RLE that cannot be decoded: {error}"
    return
  if not isinstance(runs, list) or not all(_is_int(x) and x >= 0 for x in runs):
    yield "has RLE counts that are not run lengths"
  elif sum(runs) != num_pixels:
    yield f"has RLE counts over {sum(runs)} pixels; its image has {num_pixels}"


def _check_polygons(polygons: list, size: list[int]) -> Iterator[str]:
  for polygon in polygons:
    if not isinstance(polygon, list) or not all(map(_is_number, polygon)):
      yield "has a polygon that is not a list of numbers [x1, y1, x2, y2, ...]"
    elif len(polygon) < 6 or len(polygon) % 2:
      yield (
        f"has a polygon of {len(polygon)} numbers; need an even number, at "
        "least 6 (3 points)"
      )
    else:
      points = np.asarray(polygon, np.float64).reshape(-1, 2)
      extent = np.array([size[1], size[0]])
      # Rasterising walks along the edges, so far points cost without bound.
      far = ((points < -extent) | (points > 2 * extent)).any(1)
      if far.any():
        x, y = points[far][0]
        yield f"has a polygon point ({x:g}, {y:g}) far outside its image"
        continue
      edges = np.diff(points, axis=0, append=points[:1])
      outline = np.abs(edges).max(1).sum()
      if outline > _MAX_OUTLINE:
        yield (
          f"has a polygon of {len(points)} points whose outline is "
          f"{outline:.0f} pixels long; at most {_MAX_OUTLINE} are read"
        )


def _check_box(box: Any, size: list[int]) -> Iterator[str]:
  if not isinstance(box, list) or len(box) != 4:
    yield f"has a box {_show(box)}; need [x, y, width, height]"
    return
  if not all(map(_is_number, box)):
    yield f"has a box {_show(box)} that is not four numbers"
    return
  x, y, width, height = box
  if width <= 0 or height <= 0:
    yield f"has a box {box} without extent"
  beyond = max(-x, -y, x + width - size[1], y + height - size[0])
  if beyond > _BOX_TOLERANCE:
    yield (
      f"has a box {box} (x, y, width, height) outside its image of width "
      f"{size[1]}, height {size[0]}"
    )


def _check_annotation(item: Mapping, size: list[int] | None, labels: Mapping):
  """Yields what is wrong with an annotation whose id is fine."""
  category_id = item.get("category_id")
  if not _is_int(category_id) or category_id not in labels:
    yield f"has the unknown category_id {_show(category_id)}"
  if item.get("iscrowd", 0) not in (0, 1):
    yield f"has iscrowd {_show(item['iscrowd'])}; need 0 or 1"
  if item.get("area") is not None and not _is_number(item["area"]):
    yield f"has the area {_show(item['area'])}; need a number"
  if size is None:
    yield f"has the unknown image_id {_show(item.get('image_id'))}"
    return
  if item.get("bbox") is not None:
    yield from _check_box(item["bbox"], size)
  match item.get("segmentation"):
    case dict() as rle:
      yield from _check_rle(rle, size)
    case [_, *_] as polygons:
      yield from _check_polygons(polygons, size)
    case other:
      yield (
        f"has the segmentation {_show(other)}; need polygons or an RLE with "
        "size and counts"
      )


def _to_rle(segmentation: Any, size: list[int]) -> dict[str, Any]:
  """Converts a checked segmentation to COCO's compressed RLE."""
  if isinstance(segmentation, list):
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
  counts = segmentation["counts"]
  runs = _decode_counts(counts) if isinstance(counts, str) else counts
  # pycocotools makes boxes of 2^32 pixels from runs of length 0 in the middle.
  whole = [0]
  for i, run in enumerate(runs):
    if run and i % 2 == len(whole) % 2:
      whole.append(run)
    else:
      whole[-1] += run
  return coco_mask.frPyObjects({"size": size, "counts": whole}, *size)


def _make_object(
  item: Mapping, size: list[int], labels: Mapping
) -> ObjectRecord:
  """Converts a checked annotation; area -1 means unknown in some exports."""
  rle = _to_rle(item["segmentation"], size)
  area, box = item.get("area"), item.get("bbox")
  if area is None or area < 0:
    area = coco_mask.area(rle)
  return ObjectRecord(
    annotation_id=item["id"],
    label=labels[item["category_id"]],
    is_crowd=bool(item.get("iscrowd", 0)),
    rle=rle["counts"],
    area=float(area),
    box_xywh=tuple(coco_mask.toBbox(rle) if box is None else box),
  )


def _parse(text: bytes, name: str) -> dict[str, list]:
  """Parses the file and its categories' outline, or explains what is wrong."""
  remedy = "Need a COCO instances file: an object with the lists images, "
  remedy += "annotations and categories."
  try:
    content = json.loads(text)
  except (UserError, ValueError) as error:
    raise UserError(f"{name} is not JSON: {error}. {remedy}") from error
  except RecursionError as error:
    raise UserError(f"{name} is nested too deeply. {remedy}") from error
  if not isinstance(content, dict):
    kind = type(content).__name__
    raise UserError(f"{name} holds a {kind} at the top. {remedy}")
  for key in ("images", "annotations", "categories"):
    if not isinstance(content.get(key), list):
      found = ", ".join(content)[:200] or "nothing"
      raise UserError(f"{name} has no list {key!r}; it has {found}. {remedy}")
  return content


def _read_categories(content: Mapping, name: str) -> dict[int, str]:
  categories = {}
  for item in content["categories"]:
    if not (
      isinstance(item, dict)
      and _is_int(item.get("id"))
      and is_text(item.get("name"))
    ):
      raise UserError(f"{name}: category {_show(item)} needs an id and a name.")
    if item["id"] in categories:
      raise UserError(f"{name}: two categories have the id {item['id']}.")
    categories[item["id"]] = item["name"]
  if not categories:
    raise UserError(f"{name}: the list of categories is empty.")
  return dict(sorted(categories.items()))


def _read_frequencies(content: Mapping, name: str) -> tuple[str, ...]:
  """Returns LVIS's frequencies by rising category id, () without them."""
  items = sorted(content["categories"], key=lambda item: item["id"])
  if not any("frequency" in item for item in items):
    return ()
  for item in items:
    if item.get("frequency") not in ("r", "c", "f"):
      raise UserError(
        f"{name}: category {item['id']} has the frequency "
        f"{_show(item.get('frequency'))}; need r, c or f, or none at all."
      )
  return tuple(item["frequency"] for item in items)


def _file_name(item: Mapping) -> Any:
  """Returns the file; LVIS only tells where in COCO it lies on the web."""
  url = item.get("coco_url")
  if "file_name" not in item and isinstance(url, str):
    return "/".join(url.split("/")[-2:])  # 'train2017/000000391895.jpg'
  return item.get("file_name")


def _check_federated(
  item: Mapping, labels: Mapping, is_federated: bool
) -> Iterator[str]:
  for field in FEDERATED_FIELDS if is_federated else ():
    found = item.get(field)
    if not isinstance(found, list) or not all(
      _is_int(key) and key in labels for key in found
    ):
      yield f"has {field} {_show(found)}; need a list of category ids"


def _check_image(item: Mapping, files: FileTree) -> Iterator[str]:
  """Yields what is wrong with an image whose id is fine."""
  file_name, size = _file_name(item), [item.get("height")]
  size.append(item.get("width"))
  if not all(_is_int(x) and x > 0 for x in size):
    found = _show(tuple(size))
    yield f"has (height, width) {found}; need two positive integers"
    return
  if isinstance(file_name, str) and is_outside(file_name):
    yield f"file {_show(file_name)} is not below {files}; only such are read"
    return
  if not is_text(file_name) or file_name not in files:
    yield f"file {_show(file_name)} is missing in {files}"
    return
  try:
    found, _ = files.read_header(file_name)
  except (UserError, ValueError) as error:
    yield str(error)
    return
  if list(found) != size:
    yield (
      f"file {file_name} is {found[0]} x {found[1]} (height x width); the "
      f"annotations say {size[0]} x {size[1]}"
    )


def _id_problem(item: Any, seen: Mapping[int, Any]) -> str | None:
  if not isinstance(item, dict) or not _is_int(item.get("id")):
    return f"without an integer id of 64 bits: {_show(item)}"
  if item["id"] in seen:
    return f"{item['id']}: the id is used before"
  return None


def _read_images(
  content: Mapping,
  name: str,
  files: FileTree,
  labels: Mapping[int, int],
  problems: list[str],
) -> dict[int, Mapping | None]:
  """Returns the images by id, None for one that is left out."""
  num_annotations = collections.Counter(
    item["image_id"]
    for item in content["annotations"]
    if isinstance(item, dict) and _is_int(item.get("image_id"))
  )
  is_federated = any(
    isinstance(item, dict) and set(FEDERATED_FIELDS) & item.keys()
    for item in content["images"]
  )
  images = {}
  for item in content["images"]:
    if problem := _id_problem(item, images):
      problems.append(f"{name}: image {problem}.")
      continue
    found = [
      *_check_federated(item, labels, is_federated),
      *_check_image(item, files),
    ]
    images[item["id"]] = None if found else item
    number = num_annotations[item["id"]]
    with_it = f" (left out with its {number} annotations)" if number else ""
    problems += [f"{name}: image {item['id']}: {x}{with_it}." for x in found]
  return images


def _read_objects(
  content: Mapping,
  name: str,
  images: Mapping[int, Mapping | None],
  labels: Mapping[int, int],
  problems: list[str],
) -> dict[int, list[ObjectRecord]]:
  """Returns the sound objects of each image by its id."""
  objects = collections.defaultdict(list)
  seen = {}
  for item in content["annotations"]:
    problem = _id_problem(item, seen)
    if problem:
      image_id = item.get("image_id") if isinstance(item, dict) else None
      problems.append(f"{name}: image {_show(image_id)}: annotation {problem}.")
      continue
    seen[item["id"]] = True
    image_id = item.get("image_id")
    is_known = _is_int(image_id) and image_id in images
    if is_known and images[image_id] is None:
      continue  # goes with its image
    image = images[image_id] if is_known else None
    size = [image["height"], image["width"]] if image else None
    # dict.fromkeys: one line where many parts are wrong in the same way
    found = [*dict.fromkeys(_check_annotation(item, size, labels))]
    if found:
      where = f"{name}: image {_show(image_id)}: annotation {item['id']}"
      problems += [f"{where} {x}." for x in found]
    else:
      objects[image_id].append(_make_object(item, size, labels))
  return objects


def read_annotations(text: bytes, name: str, files: FileTree) -> Annotations:
  """Reads and checks an annotation file against its images.

  Missing areas, boxes and iscrowd are filled in, negative areas recomputed.

  Args:
    text: Content of the JSON file.
    name: Its name, for messages.
    files: The images.

  Returns:
    All that is sound, and a line for each problem.

  Raises:
    UserError: If this is no COCO instances file.
  """
  content = _parse(text, name)
  categories = _read_categories(content, name)
  labels = {key: label for label, key in enumerate(categories)}
  problems = []
  images = _read_images(content, name, files, labels, problems)
  objects = _read_objects(content, name, images, labels, problems)
  records = [
    ImageRecord(
      image_id=key,
      file_name=_file_name(image),
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
    class_names=tuple(categories.values()),
    category_ids=tuple(categories),
    problems=problems,
    num_images_skipped=len(content["images"]) - len(records),
    num_annotations_skipped=len(content["annotations"]) - num_objects,
    class_frequencies=_read_frequencies(content, name),
  )
