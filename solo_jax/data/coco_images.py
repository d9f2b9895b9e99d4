"""Images of annotation files and the image files they refer to."""

import collections
from collections.abc import Iterator, Mapping
from typing import Any

from solo_jax.data import exif
from solo_jax.data.coco_values import id_problem, is_int, show, to_int
from solo_jax.data.file_names import Match, NameFinder
from solo_jax.data.file_tree import FileTree
from solo_jax.data.findings import Findings
from solo_jax.data.image_files import Header
from solo_jax.data.records import FEDERATED_FIELDS
from solo_jax.errors import UserError


class ImageReader:
  """Reads the images of one annotation file."""

  def __init__(
    self,
    name: str,
    files: FileTree,
    labels: Mapping[int, int],
    exif_choice: str | None,
    findings: Findings,
  ):
    """Makes the reader.

    Args:
      name: Name of the annotation file, for messages.
      files: The images.
      labels: Label of each category id.
      exif_choice: One of `exif.CHOICES` or None.
      findings: Collects what is found.
    """
    self._name, self._files, self._labels = name, files, labels
    self._exif, self._findings = exif_choice, findings
    self._finder = NameFinder(files)

  def read(self, content: Mapping) -> dict[int, Mapping | None]:
    """Returns the images by id, None for one that is skipped."""
    num_annotations = collections.Counter(
      item["image_id"]
      for item in content["annotations"]
      if isinstance(item, dict) and is_int(item.get("image_id"))
    )
    is_federated = any(
      isinstance(item, dict) and set(FEDERATED_FIELDS) & item.keys()
      for item in content["images"]
    )
    images = {}
    for item in content["images"]:
      if problem := id_problem(item, images):
        kind = "image without an id of its own"
        self._findings.problems.add(kind, f"{self._name}: image {problem}.")
        continue
      found = list(_check_federated(item, self._labels, is_federated))
      try:
        item = self._find_image(item)
      except _LeftOut as error:
        found.append((error.kind, str(error)))
      images[item["id"]] = None if found else item
      number = num_annotations[item["id"]]
      with_it = f" (skipped with its {number} annotations)" if number else ""
      for kind, detail in found:
        line = f"{self._name}: image {item['id']}: {detail}{with_it}."
        self._findings.problems.add(kind, line)
    self._drop_shared_files(images)
    return images

  def _find_image(self, item: Mapping) -> dict[str, Any]:
    """Returns an image with its checked file and size."""
    where, repairs = f"{self._name}: image {item['id']}", self._findings.repairs
    written = _file_name(item)
    match = self._find_file(written)
    header = self._read_header(match.name)
    size = _read_size(item)
    if None in size:
      found = exif.image_size(header, self._exif)
      size = [x or y for x, y in zip(size, found, strict=True)]
      repairs.add("image without height or width, taken from its file", where)
    wrong = exif.compare_size(header, size, self._exif, "the annotations say")
    if wrong:
      raise _LeftOut(wrong.kind, f"file {match.name} {wrong.detail}")
    if match.difference:
      repairs.add(
        f"file name with {match.difference}",
        f"{where}: {show(written)} is read as {show(match.name)}",
      )
    if note := exif.describe_tag(header, self._exif):
      self._findings.notes.add(note[0], f"{where}: {match.name} {note[1]}")
    read = dict(height=size[0], width=size[1], file_name=match.name)
    return item | read | dict(written=written)

  def _find_file(self, written: Any) -> Match:
    try:
      if isinstance(written, str):
        return self._finder.find(written)
      raise UserError(f"file {show(written)} is missing in {self._files}")
    except UserError as error:
      raise _LeftOut("image whose file is not found", str(error)) from error

  def _read_header(self, name: str) -> Header:
    """Returns the header of a file, which must hold one image."""
    try:
      header = self._files.read_header(name)
    except UserError as error:
      raise _LeftOut(kind_of_file(error), str(error)) from error
    if header.num_pages > 1:
      raise _LeftOut(
        "file with several pages",
        f"file {name} has {header.num_pages} pages, and annotations do not say "
        "which one: save each page as a file",
      )
    return header

  def _drop_shared_files(self, images: dict[int, Mapping | None]) -> None:
    """Skips images of different names that match the same file."""
    names = collections.defaultdict(set)
    for image in filter(None, images.values()):
      names[image["file_name"]].add(image["written"])
    for key, image in images.items():
      if image and len(names[image["file_name"]]) > 1:
        images[key] = None
        self._findings.problems.add(
          "file matched by several names of the annotations",
          f"{self._name}: image {key}: file {show(image['written'])} may be "
          f"{show(image['file_name'])}, and so may "
          f"{sorted(names[image['file_name']])[:3]}: give the folder of images "
          "to which the names are relative.",
        )


class _LeftOut(Exception):
  """An image to skip; the message continues after 'image 3: '."""

  def __init__(self, kind: str, detail: str):
    super().__init__(detail)
    self.kind = kind


def _read_size(item: Mapping) -> list[int | None]:
  """Returns [height, width], None if missing."""
  written = item.get("height"), item.get("width")
  size = [to_int(x) for x in written]
  for x, y in zip(written, size, strict=True):
    # Some exporters write 0 or -1 for an unknown size.
    if x is not None and (y is None or y < -1):
      raise _LeftOut(
        "image without a size",
        f"has (height, width) {show(written)}; need two positive integers",
      )
  return [x if x and x > 0 else None for x in size]


def kind_of_file(error: UserError) -> str:
  """Returns the message about a file without its name.

  Args:
    error: Raised by `FileTree.read_header`.
  """
  return "file that is " + str(error).partition(" is ")[2].partition(":")[0]


def _file_name(item: Mapping) -> Any:
  """Returns the file name; LVIS only has the image's COCO address."""
  url = item.get("coco_url")
  if "file_name" not in item and isinstance(url, str):
    return "/".join(url.split("/")[-2:])  # 'train2017/000000391895.jpg'
  return item.get("file_name")


def _check_federated(
  item: Mapping, labels: Mapping, is_federated: bool
) -> Iterator[tuple[str, str]]:
  for field in FEDERATED_FIELDS if is_federated else ():
    found = item.get(field)
    if not isinstance(found, list) or not all(
      is_int(key) and key in labels for key in found
    ):
      yield (
        f"image whose {field} is not a list of category ids",
        f"has {field} {show(found)}; need a list of category ids",
      )
