"""Builder of pairs of image and label image, as usual in microscopy.

A source has `images/<id>.*` and `labels/<id>.*` (PNG, TIFF or BMP, one channel;
0 is background, every other value one object) and maybe `index.json`, a list
of objects with `id` and `split`. Or both kinds of files are in one folder, with
label images named `<id>_masks.*`.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

from pycocotools import mask as coco_mask

from solo_jax.data import builder, examples, image_files
from solo_jax.data.file_tree import split_suffix
from solo_jax.data.findings import Findings
from solo_jax.data.label_files import read_label_image
from solo_jax.data.label_pairs import LabelSource, Pair, find_pairs, list_images
from solo_jax.data.label_pieces import encode_labels, number_pieces
from solo_jax.errors import UserError

_SPLIT_NAMES = {"val": "validation", "valid": "validation"}
# Annotation ids are image_id * this + label value, to be traceable.
_MAX_VALUE = 100_000


@dataclasses.dataclass(frozen=True)
class LabeledPairs:
  """A split of pairs.

  Attributes:
    pairs: The pairs.
    source: The folder of the files.
  """

  pairs: Sequence[Pair]
  source: LabelSource

  def __len__(self) -> int:
    return len(self.pairs)

  def __getitem__(self, index: int) -> tuple[bytes, examples.ImageRecord]:
    """Returns one image with its objects."""
    pair, source = self.pairs[index], self.source
    where = f"{source.labels}: {pair.label_name}"
    try:
      labels, dtype = read_label_image(
        source.labels.read(pair.label_name), pair.page
      )
      numbers, pieces = number_pieces(labels)
      notes = list(_describe(pieces, source.splits_pieces, where))
      if dtype.startswith("float"):
        notes.append(("label image of floats, all whole numbers", where))
      labels = numbers if source.splits_pieces else labels
      if not 0 <= labels.min() <= labels.max() < _MAX_VALUE:
        raise UserError(
          f"has values {labels.min()} to {labels.max()}; need 0 to "
          f"{_MAX_VALUE - 1}"
        )
    except UserError as error:
      kind = "label image that cannot be used"
      raise examples.UnusableImage(kind, f"{where}: {error}.", 0) from error
    encoded_labels = encode_labels(labels)
    try:
      encoded = self._read_image(pair, labels.shape)
    except UserError as error:
      raise examples.UnusableImage(
        "image that cannot be used",
        f"{source.images}: {pair.image_name}: {error}.",
        len(encoded_labels),
      ) from error
    page = f" page {pair.page + 1}" if pair.num_pages > 1 else ""
    return encoded, examples.ImageRecord(
      image_id=pair.image_id,
      file_name=pair.image_name + page,
      height=labels.shape[0],
      width=labels.shape[1],
      objects=_make_objects(pair.image_id, encoded_labels),
      notes=notes,
    )

  def _read_image(self, pair: Pair, size: tuple[int, int]) -> bytes:
    """Returns the image as JPEG or PNG."""
    encoded = image_files.to_jpeg_or_png(
      self.source.images.read(pair.image_name),
      page=pair.page,
      orientation=pair.orientation,
    )
    found = image_files.stored_size(encoded)
    if found != size:
      raise UserError(
        f"its page {pair.page + 1} has {found} pixels (height, width), that of "
        f"{pair.label_name} {size}"
      )
    return encoded


def _make_objects(
  image_id: int, encoded: Mapping[int, dict]
) -> list[examples.ObjectRecord]:
  return [
    examples.ObjectRecord(
      annotation_id=image_id * _MAX_VALUE + value,
      label=0,
      is_crowd=False,
      rle=rle["counts"],
      area=float(coco_mask.area(rle)),
      box_xywh=tuple(coco_mask.toBbox(rle)),
    )
    for value, rle in encoded.items()
  ]


def _describe(
  pieces: Mapping[int, int], is_split: bool, where: str
) -> Iterator[tuple[str, str]]:
  """Yields (kind, line) for objects in several pieces."""
  several = {value: number for value, number in pieces.items() if number > 1}
  if not several:
    return
  value, number = max(several.items(), key=lambda item: item[1])
  line = f"{where}: value {value} in {number} pieces"
  if is_split:
    kind = "label image with pieces that became objects (--split_pieces)"
  elif len(pieces) == 1:
    kind = (
      "label image of one value in several pieces: if it is a foreground mask, "
      "pass --split_pieces"
    )
  else:
    kind = (
      "label image with objects in several pieces: if each is an object, pass "
      "--split_pieces"
    )
    line += f"; {len(several)} of {len(pieces)} objects are in pieces"
  yield kind, line


def read_index(path: pathlib.Path) -> dict[str, str]:
  """Returns the split of each image.

  Args:
    path: JSON list of objects with `id` (file name, suffix optional) and
      `split`; 'val' and 'valid' mean validation.

  Returns:
    {id: split}.

  Raises:
    UserError: If the file has another form, an image is in two splits, or the
      name of a split cannot be part of a file name.
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
        f"{path}: {key!r} has the split {split!r:.80}; names of splits consist "
        "of letters, digits and _."
      )
    stem, suffix = split_suffix(str(key))
    name = stem if suffix in image_files.SUFFIXES else str(key)
    split = _SPLIT_NAMES.get(split, split)
    if names.setdefault(name, split) != split:
      raise UserError(
        f"{path}: {name!r} is in the splits {names[name]} and {split}; an "
        "image in both would be used for training and evaluation."
      )
  return names


def find_splits(
  source: LabelSource, pairs: Mapping[str, Sequence[Pair]], findings: Findings
) -> dict[str, str] | None:
  """Returns the split of each image, as an index.json lists them.

  Args:
    source: The folder.
    pairs: Its pairs, by id.
    findings: Collects ids without files and images that are not listed.

  Returns:
    See `read_index`; None without an index.
  """
  index = source.path / "index.json"
  if not index.is_file():
    return None
  splits = read_index(index)
  for key in sorted(splits.keys() - pairs.keys()):
    kind = "id of index.json without files"
    findings.problems.add(kind, f"{index}: {key!r} has no files.")
  for key in sorted(pairs.keys() - splits.keys()):
    kind, name = "image not listed in index.json", pairs[key][0].image_name
    findings.problems.add(kind, f"{index}: {name} is not listed.")
  return splits


class LabeledImages(builder.RecordsBuilder):
  """Builder of pairs of image and label image, of one class."""

  def __init__(
    self,
    *,
    data_dir: str,
    name: str,
    source: LabelSource,
    class_name: str = "object",
    validation_fraction: float = 0.1,
    tolerance: builder.Tolerance = builder.TOLERANT,
  ):
    """Makes the builder.

    Args:
      data_dir: Directory of all prepared datasets.
      name: Name below `labeled_images`.
      source: See `label_pairs.find_source`.
      class_name: Name of the only class.
      validation_fraction: Used if there is no `index.json`.
      tolerance: How many problems are tolerated.
    """
    super().__init__(data_dir=data_dir, name=name, tolerance=tolerance)
    self._source = source
    self._class_name = class_name
    self._validation_fraction = validation_fraction

  def read_splits(self, dl_manager) -> Mapping[str, LabeledPairs]:
    """Returns the splits, with pairs checked."""
    del dl_manager  # nothing to download
    findings = Findings()
    pairs = find_pairs(self._source, findings)
    splits = find_splits(self._source, pairs, findings)
    num_files = len(list_images(self._source, Findings()))
    used = [key for key in pairs if splits is None or key in splits]
    self.describe(
      builder.Description(
        class_names=(self._class_name,),
        category_ids=(1,),
        source=str(self._source.path),
        findings=findings,
        num_images=num_files + sum(len(pairs[key]) - 1 for key in used),
        num_images_skipped=num_files - len(used),
        exif=self._source.exif_choice or "ignore",
      )
    )
    if splits is None:
      splits = self.hold_out(list(pairs), self._validation_fraction)
    members = {split: [] for split in ("train", "validation")}
    for key in used:
      members.setdefault(splits[key], []).extend(pairs[key])
    return {
      split: LabeledPairs(chosen, self._source)
      for split, chosen in members.items()
    }
