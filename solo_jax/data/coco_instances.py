"""Builder of COCO-format instance segmentation datasets.

Sources: a folder laid out like COCO 2017, whose parts may still be the
official zip archives; a download of those; or any pairs of an annotation file
and a folder (or zip) of images.
"""

import dataclasses
import io
import pathlib
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence

from solo_jax.data import builder, examples, image_files
from solo_jax.data.annotations import read_annotations
from solo_jax.data.file_tree import MAX_PIXELS, PIXELS_LIMIT, FileTree
from solo_jax.data.findings import Findings
from solo_jax.errors import UserError

COCO_URL = "http://images.cocodataset.org"
_ARCHIVES = {
  "train": "zips/train2017.zip",
  "validation": "zips/val2017.zip",
  "annotations": "annotations/annotations_trainval2017.zip",
}
# Folders of Roboflow's export.
_EXPORTED = {"train": "train", "valid": "validation", "test": "test"}
_IMAGES = {"train": "train2017", "validation": "val2017"}


@dataclasses.dataclass(frozen=True)
class SplitFiles:
  """The files of a split.

  Attributes:
    annotations: Folder or archive of the annotation file.
    annotations_name: Its name there.
    images: Folder or archive of the images.
  """

  annotations: FileTree
  annotations_name: str
  images: FileTree


@dataclasses.dataclass(frozen=True)
class AnnotatedImages:
  """A split with its images as files.

  Attributes:
    images: The images without their pixels.
    files: Folder or archive of the files.
    exif_choice: One of `exif.CHOICES` or None.
  """

  images: Sequence[examples.ImageRecord]
  files: FileTree
  exif_choice: str | None = None

  def __len__(self) -> int:
    return len(self.images)

  def __getitem__(self, index: int) -> tuple[bytes, examples.ImageRecord]:
    """Returns one image with its objects."""
    image = self.images[index]
    try:
      encoded = self.files.read(image.file_name)
      orientation = 1
      if self.exif_choice == "apply":
        header = image_files.read_header(io.BytesIO(encoded), PIXELS_LIMIT)
        orientation = header.orientation
      return image_files.to_jpeg_or_png(encoded, orientation=orientation), image
    except UserError as error:
      raise examples.UnusableImage(
        "image that cannot be used",
        f"{self.files}: image {image.image_id}: file {image.file_name}: "
        f"{error}.",
        len(image.objects),
      ) from error


def find_custom(
  annotations: str, images: str, max_pixels: int = MAX_PIXELS
) -> SplitFiles:
  """Returns the files of a split, given annotation file and images.

  Args:
    annotations: Path of the JSON file.
    images: Path of the folder or zip archive of the images.
    max_pixels: Images that declare more pixels are rejected.

  Returns:
    The split.

  Raises:
    UserError: If either is missing.
  """
  path = pathlib.Path(annotations)
  if not path.is_file():
    raise UserError(f"{path}: no such annotation file.")
  return SplitFiles(
    FileTree(path.parent), path.name, FileTree(images, max_pixels)
  )


def find_coco(
  source: str, max_pixels: int = MAX_PIXELS
) -> dict[str, SplitFiles]:
  """Returns the parts of COCO 2017, each a folder or an official zip archive.

  Args:
    source: Folder with train2017, val2017 and annotations, or train2017.zip,
      val2017.zip and annotations_trainval2017.zip, in any combination; or an
      export with train, valid and test, each with _annotations.coco.json.
    max_pixels: Images that declare more pixels are rejected.

  Returns:
    The splits train and validation, for an export also test.

  Raises:
    UserError: If a part is missing, listing where it was expected.
  """
  root = pathlib.Path(source)
  if exported := _find_exported(root, max_pixels):
    return exported

  def find(*names: str) -> FileTree:
    for name in names:
      if (root / name).exists():
        return FileTree(root / name, max_pixels)
    raise UserError(
      f"{root}: found none of {', '.join(names)}. --source needs train2017, "
      "val2017 and annotations, as folders or as the official zip archives, "
      "or use --train_annotations, --train_images and so on."
    )

  return _pair(
    {split: find(x, f"{x}.zip") for split, x in _IMAGES.items()},
    find("annotations", "annotations_trainval2017.zip"),
  )


def _find_exported(
  root: pathlib.Path, max_pixels: int
) -> dict[str, SplitFiles]:
  """Returns the splits of a Roboflow export, one folder per split."""
  splits = {}
  for folder, split in _EXPORTED.items():
    path = root / folder / "_annotations.coco.json"
    if path.is_file():
      splits[split] = find_custom(str(path), str(path.parent), max_pixels)
  return splits


def _pair(
  images: Mapping[str, FileTree], annotations: FileTree
) -> dict[str, SplitFiles]:
  splits = {}
  for split, folder in _IMAGES.items():
    name = f"instances_{folder}.json"
    if name not in annotations:
      raise UserError(f"{annotations}: {name} is missing there.")
    splits[split] = SplitFiles(annotations, name, images[split])
  return splits


class CocoInstances(builder.RecordsBuilder):
  """Builder of COCO-format datasets."""

  def __init__(
    self,
    *,
    data_dir: str,
    name: str = "2017",
    splits: Mapping[str, SplitFiles] | None,
    validation_fraction: float = 0.0,
    exif_choice: str | None = None,
    tolerance: builder.Tolerance = builder.TOLERANT,
    download_url: str = COCO_URL,
  ):
    """Makes the builder.

    Args:
      data_dir: Directory of all prepared datasets.
      name: Name below `coco_instances`.
      splits: The files of each split; None downloads COCO 2017 (19 GB).
      validation_fraction: Share of the images held out if 'train' is the only
        split.
      exif_choice: One of `exif.CHOICES`; None ignores orientation tags and
        reports them.
      tolerance: How many problems are tolerated.
      download_url: Address of the official archives.
    """
    super().__init__(data_dir=data_dir, name=name, tolerance=tolerance)
    self._split_files = splits
    self._validation_fraction = validation_fraction
    self._exif = exif_choice
    self._download_url = download_url

  def read_splits(self, dl_manager):
    """Reads and checks the annotations of each split."""
    files = self._split_files or self._download(dl_manager)
    read = {}
    for split, part in files.items():
      name = part.annotations_name
      self.announce(f"Reading {name} and checking it against {part.images}")
      text = part.annotations.read(name)
      read[split] = read_annotations(text, name, part.images, self._exif)
    first, *others = read
    for split in others:
      if _categories(read[split]) != _categories(read[first]):
        differing = _categories(read[split]) ^ _categories(read[first])
        raise UserError(
          f"{files[first].annotations_name} and "
          f"{files[split].annotations_name} must have the same categories; "
          f"they differ in (id, name): {sorted(differing)}."
        )
    findings = Findings()
    for split, part in read.items():
      findings.extend(part.findings)
      builder.check_loss(
        f"{files[split].annotations_name} with {files[split].images}",
        (part.num_images, part.num_annotations),
        (part.num_images_skipped, part.num_annotations_skipped),
        part.findings,
        dataclasses.replace(self._tolerance, is_strict=False),
      )
    total = lambda field: sum(getattr(x, field) for x in read.values())  # noqa: E731
    self.describe(
      builder.Description(
        class_names=read[first].class_names,
        category_ids=read[first].category_ids,
        source=", ".join(str(part.images) for part in files.values()),
        findings=findings,
        num_images=total("num_images"),
        num_annotations=total("num_annotations"),
        num_images_skipped=total("num_images_skipped"),
        num_annotations_skipped=total("num_annotations_skipped"),
        class_frequencies=read[first].class_frequencies,
        exif=self._exif or "ignore",
      )
    )
    if self._validation_fraction and [*read] == ["train"]:
      return self._split(read["train"].images, files["train"].images)
    return {
      split: AnnotatedImages(part.images, files[split].images, self._exif)
      for split, part in read.items()
    }

  def _split(self, images, files: FileTree) -> dict[str, AnnotatedImages]:
    """Returns splits with images held out; a file's entries stay together."""
    names = [image.file_name for image in images]
    sides = self.hold_out(names, self._validation_fraction)
    return {
      split: AnnotatedImages(
        [image for image in images if sides[image.file_name] == split],
        files,
        self._exif,
      )
      for split in ("train", "validation")
    }

  def _download(self, dl_manager) -> dict[str, SplitFiles]:
    """Downloads the official archives; they are read without unpacking."""
    urls = {x: f"{self._download_url}/{y}" for x, y in _ARCHIVES.items()}
    try:
      # TFDS waits and retries silently if a server cannot be reached.
      head = urllib.request.Request(urls["annotations"], method="HEAD")
      urllib.request.urlopen(head, timeout=20).close()
    except (urllib.error.URLError, TimeoutError) as error:
      raise UserError(
        f"Cannot download {urls['annotations']}: {error}. Download the "
        "archives by hand into one folder and pass it as --source."
      ) from error
    archives = {
      part: FileTree(path) for part, path in dl_manager.download(urls).items()
    }
    return _pair(archives, archives["annotations"])


def _categories(part) -> set[tuple[int, str]]:
  return set(zip(part.category_ids, part.class_names, strict=True))
