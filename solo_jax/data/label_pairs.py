"""Images and their label images, paired by name."""

import collections
import dataclasses
import pathlib
import re
from collections.abc import Sequence

from solo_jax.data import exif, image_files
from solo_jax.data.coco_images import kind_of_file
from solo_jax.data.file_tree import MAX_PIXELS, FileTree, is_text, split_suffix
from solo_jax.data.findings import Findings
from solo_jax.errors import UserError

_LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
# Endings that Cellpose and others use for images and label images.
_IMAGE_ENDING = re.compile(r"_(img|image)$", re.IGNORECASE)
_LABEL_ENDING = re.compile(r"_(cp_masks|masks?|labels?)$", re.IGNORECASE)
# Other files of Cellpose.
_NO_IMAGE = re.compile(r"_(flows|outlines|cp_output|dP|cellprob)$")


@dataclasses.dataclass(frozen=True)
class Pair:
  """An image and its label image.

  Attributes:
    image_id: Position among all images of the source, from 1.
    image_name: File name of the image.
    label_name: File name of the label image.
    page: Page of both files, from 0.
    num_pages: Pages of either file.
    orientation: EXIF orientation to apply to the image; 1 leaves it as stored.
  """

  image_id: int
  image_name: str
  label_name: str
  page: int = 0
  num_pages: int = 1
  orientation: int = 1


@dataclasses.dataclass(frozen=True)
class LabelSource:
  """A folder of images and label images.

  Attributes:
    path: The folder.
    images: Folder or archive of the images.
    labels: Folder or archive of the label images; may be the same.
    exif_choice: One of `exif.CHOICES` or None.
    splits_pieces: Whether each piece of a value is a separate object.
  """

  path: pathlib.Path
  images: FileTree
  labels: FileTree
  exif_choice: str | None = None
  splits_pieces: bool = False


def find_source(
  source: str,
  max_pixels: int = MAX_PIXELS,
  exif_choice: str | None = None,
  splits_pieces: bool = False,
) -> LabelSource:
  """Returns the source made of a folder of images and label images.

  Args:
    source: Folder with `images` and `labels`, or with both kinds of files,
      `x.png` or `x_img.png` and `x_masks.png`, as in Cellpose.
    max_pixels: Images that declare more pixels are rejected.
    exif_choice: One of `exif.CHOICES` or None.
    splits_pieces: Whether each piece of a value is a separate object.

  Returns:
    The source.

  Raises:
    UserError: If there is no such folder.
  """
  path = pathlib.Path(source)
  folders = path / "images", path / "labels"
  if path.is_dir() and not any(folder.is_dir() for folder in folders):
    files = FileTree(path, max_pixels)
    if any(_is_label(name) for name in files.list_names()):
      return LabelSource(path, files, files, exif_choice, splits_pieces)
  images, labels = (FileTree(folder, max_pixels) for folder in folders)
  return LabelSource(path, images, labels, exif_choice, splits_pieces)


def _is_label(name: str) -> bool:
  stem, suffix = split_suffix(name)
  return suffix in _LABEL_SUFFIXES and bool(_LABEL_ENDING.search(stem))


def list_images(source: LabelSource, findings: Findings) -> dict[str, str]:
  """Returns the images of a source.

  Args:
    source: The folder.
    findings: Collects ignored files.

  Returns:
    {id: file}, the id being the name without its suffix.
  """
  names = source.images.list_names()
  if source.images is source.labels:
    names = [x for x in names if not _is_label(x)]
    names = [x for x in names if not _NO_IMAGE.search(split_suffix(x)[0])]
  return _by_id(source.images, names, image_files.SUFFIXES, findings)


def find_pairs(
  source: LabelSource, findings: Findings
) -> dict[str, list[Pair]]:
  """Returns the files of a source paired by name.

  Args:
    source: The folder.
    findings: Collects problems and repairs.

  Returns:
    The valid pairs by id, one per page of a stack.
  """
  images, labels = source.images, source.labels
  image_names = list_images(source, findings)
  names = labels.list_names()
  if images is labels:
    names = [name for name in names if _is_label(name)]
  label_names = _by_id(labels, names, _LABEL_SUFFIXES, findings)
  partners = _match(image_names, label_names, findings)
  pairs, next_id = {}, 1
  for key in sorted(
    image_names.keys() | label_names.keys() - partners.values()
  ):
    if key not in image_names:
      kind = "label image without an image"
      findings.problems.add(kind, f"{labels}: {label_names[key]} has no image.")
    elif key not in partners:
      kind, name = "image without a label image", image_names[key]
      findings.problems.add(kind, f"{images}: {name} has no label image.")
    else:
      found = _make_pairs(
        source,
        next_id,
        image_names[key],
        label_names[partners[key]],
        findings,
      )
      if found:
        pairs[key] = found
      next_id += max(len(found) - 1, 0)
    next_id += 1
  return pairs


def _match(
  images: dict[str, str], labels: dict[str, str], findings: Findings
) -> dict[str, str]:
  """Returns the id of the label image of each image."""
  partners = {key: key for key in images if key in labels}
  left = collections.defaultdict(list)
  for key in labels.keys() - partners.keys():
    left[_LABEL_ENDING.sub("", key)].append(key)
  for key in sorted(images.keys() - partners.keys()):
    found = left.get(key) or left.get(_IMAGE_ENDING.sub("", key), [])
    if len(found) == 1:
      partners[key] = found[0]
      findings.repairs.add(
        "label image with an ending in its name, such as x_masks for x",
        f"{labels[found[0]]} belongs to {images[key]}",
      )
    elif found:
      findings.problems.add(
        "image with several label images",
        f"{images[key]} may have the label image {' or '.join(sorted(found))}.",
      )
  return partners


def _by_id(
  files: FileTree, names: Sequence[str], suffixes: Sequence[str], findings
) -> dict[str, str]:
  """Returns {id: file name}, the id being the name without its suffix."""
  found = {}
  for name in names:
    stem, suffix = split_suffix(name)
    if not is_text(name):
      findings.problems.add(
        "file whose name is not UTF-8",
        f"{files}: the name {name!r} is not UTF-8.",
      )
    elif suffix not in suffixes:
      kind = suffix[:21] or "no suffix"
      findings.notes.add(
        f"file ignored: {kind} is not read here", f"{files}: {name}"
      )
    elif stem in found:
      findings.problems.add(
        "two files with the same name",
        f"{files}: {name} and {found[stem]} have the same id.",
      )
    else:
      found[stem] = name
  return found


def _make_pairs(
  source: LabelSource,
  image_id: int,
  image_name: str,
  label_name: str,
  findings: Findings,
) -> list[Pair]:
  """Returns the pairs of two files, none if they do not match."""
  where = f"{source.images}: {image_name}"
  try:
    header = source.images.read_header(image_name)
    labels = source.labels.read_header(label_name)
  except UserError as error:
    findings.problems.add(kind_of_file(error), f"{where}: {error}.")
    return []
  choice = source.exif_choice
  wrong = exif.compare_size(
    header, labels.size, choice, f"its label image {label_name}"
  )
  if labels.num_channels != 1:
    kind = "label image with several channels"
    detail = f"label image {label_name} has {labels.num_channels} channels; "
    findings.problems.add(kind, f"{where}: {detail}need one.")
  elif header.num_pages != labels.num_pages:
    findings.problems.add(
      "image and label image with different numbers of pages",
      f"{where}: it has {header.num_pages} pages, its label image {label_name} "
      f"{labels.num_pages}: save each plane of a stack as a file, or channels "
      "as one colour image.",
    )
  elif wrong:
    findings.problems.add(wrong.kind, f"{where}: {wrong.detail}.")
  else:
    if note := exif.describe_tag(header, choice):
      findings.notes.add(note[0], f"{where} {note[1]}")
    number = header.num_pages
    if number > 1:
      kind = "stack, each page of which is an image"
      findings.repairs.add(kind, f"{where} has {number} pages")
    turned = header.orientation if choice == "apply" else 1
    return [
      Pair(image_id + page, image_name, label_name, page, number, turned)
      for page in range(number)
    ]
  return []
