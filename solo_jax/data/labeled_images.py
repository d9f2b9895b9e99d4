"""Builder of image + label-image pairs, the layout microscopy keeps.

A source has `images/<id>.*` and `labels/<id>.*` (PNG, TIFF or BMP, one channel;
0 is background, every other value one object) and maybe `index.json`, a list
of objects with `id` and `split`.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
from pycocotools import mask as coco_mask

from solo_jax.data import builder
from solo_jax.data.file_tree import (
  MAX_PIXELS,
  FileTree,
  is_text,
  read_label_image,
  to_jpeg_or_png,
)
from solo_jax.errors import UserError

_IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")
_LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
# Pillow's one-channel integer modes; P is a palette, whose indices count.
_LABEL_MODES = ("1", "L", "P", "I", "I;16", "I;16B")
_SPLIT_NAMES = {"val": "validation", "valid": "validation"}
# Annotation ids are image_id * this + label value, to be found again.
_MAX_VALUE = 100_000


@dataclasses.dataclass(frozen=True)
class Pair:
  """An image and its label image.

  Attributes:
    image_id: Position among all ids of the source, from 1.
    image_name: File below `images`.
    label_name: File below `labels`.
    size: (height, width).
  """

  image_id: int
  image_name: str
  label_name: str
  size: tuple[int, int]


def encode_labels(labels: np.ndarray) -> dict[int, dict]:
  """Encodes every object of a label image in one pass.

  Args:
    labels: [H, W] integers; 0 is background.

  Returns:
    {value: COCO's compressed RLE} by rising value, without 0.
  """
  size = list(labels.shape)
  flat = labels.T.ravel()  # runs go down the columns
  starts = np.flatnonzero(np.diff(flat, prepend=flat[0] - 1))
  stops = np.append(starts[1:], flat.size)
  values = flat[starts]
  # Sorted once: a photograph given as labels has as many values as pixels.
  order = np.argsort(values, kind="stable")
  found, firsts = np.unique(values[order], return_index=True)
  encoded = {}
  for value, runs in zip(found, np.split(order, firsts[1:]), strict=True):
    if value == 0:
      continue
    # off, on, off, ..., on, off: differences between where runs begin and end
    edges = np.stack([starts[runs], stops[runs]], 1).ravel()
    counts = np.diff(edges, prepend=0, append=flat.size).tolist()
    if counts[-1] == 0:
      counts.pop()  # the object holds the last pixel; COCO's form ends there
    encoded[int(value)] = coco_mask.frPyObjects(
      {"size": size, "counts": counts}, *size
    )
  return encoded


@dataclasses.dataclass(frozen=True)
class LabeledPairs:
  """A split of pairs.

  Attributes:
    pairs: The pairs.
    images: Holds their images.
    labels: Holds their label images.
  """

  pairs: Sequence[Pair]
  images: FileTree
  labels: FileTree

  def __len__(self) -> int:
    return len(self.pairs)

  def __getitem__(self, index: int) -> tuple[bytes, builder.ImageRecord]:
    """Reads one pair."""
    pair = self.pairs[index]
    try:
      labels = read_label_image(self.labels.read(pair.label_name))
      if not 0 <= labels.min() <= labels.max() < _MAX_VALUE:
        raise UserError(
          f"has values {labels.min()} to {labels.max()}; need 0 to "
          f"{_MAX_VALUE - 1}"
        )
    except (UserError, ValueError) as error:
      raise builder.UnusableImage(
        f"{self.labels}: {pair.label_name}: {error}.", num_annotations=0
      ) from error
    encoded_labels = encode_labels(labels)
    try:
      encoded = to_jpeg_or_png(self.images.read(pair.image_name))
    except (UserError, ValueError) as error:
      raise builder.UnusableImage(
        f"{self.images}: {pair.image_name}: {error}.", len(encoded_labels)
      ) from error
    objects = [
      builder.ObjectRecord(
        annotation_id=pair.image_id * _MAX_VALUE + value,
        label=0,
        is_crowd=False,
        rle=rle["counts"],
        area=float(coco_mask.area(rle)),
        box_xywh=tuple(coco_mask.toBbox(rle)),
      )
      for value, rle in encoded_labels.items()
    ]
    return encoded, builder.ImageRecord(
      image_id=pair.image_id,
      file_name=pair.image_name,
      height=pair.size[0],
      width=pair.size[1],
      objects=objects,
    )


def _by_id(files: FileTree, suffixes: Sequence[str], problems: list[str]):
  """Returns {id: file name}, the id being the name without its suffix."""
  names = {}
  for name in files.list_names():
    stem, _, suffix = name.rpartition(".")
    if f".{suffix.lower()}" not in suffixes:
      continue
    if not is_text(name):
      problems.append(f"{files}: the name {name!r} is not UTF-8.")
      continue
    if stem in names:
      problems.append(f"{files}: {name} and {names[stem]} have the same id.")
    names.setdefault(stem, name)
  return names


def _check_pair(
  images: FileTree, image_name: str, labels: FileTree, label_name: str
) -> tuple[tuple[int, int], str | None]:
  """Returns the size and what is wrong with the pair, if anything."""
  try:
    size, _ = images.read_header(image_name)
    label_size, mode = labels.read_header(label_name)
  except (UserError, ValueError) as error:
    return (0, 0), str(error)
  if mode not in _LABEL_MODES:
    return size, f"label image {label_name} has mode {mode}; need one channel"
  if label_size != size:
    return size, (
      f"the image is {size[0]} x {size[1]} (height x width), the label image "
      f"{label_size[0]} x {label_size[1]}"
    )
  return size, None


def find_pairs(
  images: FileTree, labels: FileTree
) -> tuple[dict[str, Pair], list[str]]:
  """Pairs the files of two folders by name.

  Args:
    images: Holds the images.
    labels: Holds the label images.

  Returns:
    The sound pairs by id, and one line for each problem.
  """
  problems = []
  image_names = _by_id(images, _IMAGE_SUFFIXES, problems)
  label_names = _by_id(labels, _LABEL_SUFFIXES, problems)
  pairs = {}
  for number, key in enumerate(sorted(image_names.keys() | label_names.keys())):
    if key not in label_names:
      problems.append(f"{images}: {image_names[key]} has no label image.")
    elif key not in image_names:
      problems.append(f"{labels}: {label_names[key]} has no image.")
    else:
      names = image_names[key], label_names[key]
      size, problem = _check_pair(images, names[0], labels, names[1])
      if problem:
        problems.append(f"{images}: {names[0]}: {problem}.")
      else:
        pairs[key] = Pair(number + 1, *names, size)
  return pairs, problems


def read_index(path: pathlib.Path) -> dict[str, str]:
  """Reads which split each image belongs to.

  Args:
    path: JSON list of objects with `id` (file name, suffix optional) and
      `split`; 'val' and 'valid' mean validation.

  Returns:
    {id: split}.

  Raises:
    UserError: If it is anything else, an image is in two splits, or a split
      has a name that cannot be part of a file's.
  """
  try:
    rows = json.loads(path.read_bytes())
    rows = [(row["id"], row["split"]) for row in rows]
  except (ValueError, TypeError, KeyError, RecursionError) as error:
    raise UserError(
      f"{path}: expected a JSON list of objects with id and split; "
      f"{type(error).__name__}: {error}."
    ) from error
  names = {}
  for key, split in rows:
    if not isinstance(split, str) or not re.fullmatch(r"\w{1,80}", split):
      raise UserError(
        f"{path}: {key!r} has the split {split!r:.80}; a split is named by "
        "letters, digits and _."
      )
    stem, _, suffix = str(key).rpartition(".")
    is_file = f".{suffix.lower()}" in _IMAGE_SUFFIXES
    name, split = stem if is_file else str(key), _SPLIT_NAMES.get(split, split)
    if names.setdefault(name, split) != split:
      raise UserError(
        f"{path}: {name!r} is in the splits {names[name]} and {split}; an "
        "image of both would be trained on and evaluated."
      )
  return names


class LabeledImages(builder.RecordsBuilder):
  """Builder of image + label-image pairs, one class."""

  def __init__(
    self,
    *,
    data_dir: str,
    name: str,
    source: str,
    class_name: str = "object",
    validation_fraction: float = 0.1,
    is_strict: bool = False,
    max_pixels: int = MAX_PIXELS,
  ):
    """Makes the builder.

    Args:
      data_dir: Directory of all prepared datasets.
      name: Name below `labeled_images`.
      source: Folder with `images`, `labels` and maybe `index.json`.
      class_name: Name of the only class.
      validation_fraction: Used where there is no `index.json`.
      is_strict: Refuse a source with problems instead of skipping them.
      max_pixels: Images that declare more are refused.

    Raises:
      UserError: If `images` or `labels` is missing.
    """
    super().__init__(data_dir=data_dir, name=name)
    self._source = pathlib.Path(source)
    self._images = FileTree(self._source / "images", max_pixels)
    self._labels = FileTree(self._source / "labels", max_pixels)
    self._class_name = class_name
    self._validation_fraction = validation_fraction
    self._is_strict = is_strict

  def read_splits(self, dl_manager) -> Mapping[str, LabeledPairs]:
    """Pairs, checks and splits the files."""
    del dl_manager  # nothing to download
    pairs, problems = find_pairs(self._images, self._labels)
    index = self._source / "index.json"
    if index.is_file():
      splits = read_index(index)
      problems += [
        f"{index}: {key!r} has no files."
        for key in splits.keys() - pairs.keys()
      ]
      problems += [
        f"{index}: {pairs[key].image_name} is not listed."
        for key in pairs.keys() - splits.keys()
      ]
    else:
      splits = builder.split_by_ratio(list(pairs), self._validation_fraction)
    members = {split: [] for split in ("train", "validation")}
    for key, pair in pairs.items():
      if key in splits:
        members.setdefault(splits[key], []).append(pair)
    num_files = len(_by_id(self._images, _IMAGE_SUFFIXES, []))
    self.describe(
      class_names=(self._class_name,),
      category_ids=(1,),
      source=str(self._source),
      problems=sorted(problems),
      num_images_skipped=num_files - sum(map(len, members.values())),
      is_strict=self._is_strict,
    )
    return {
      split: LabeledPairs(chosen, self._images, self._labels)
      for split, chosen in members.items()
    }
