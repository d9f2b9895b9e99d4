"""Builder of semantic label images: each pixel's value is its class.

A source has `images/<id>.*` and `labels/<id>.*` (one channel) and
`classes.json`, which names each value: {"0": "wall", "1": "floor", "255":
null}. null means void: not trained and not scored. Values are used unchanged; a
value that is missing from the table is a problem.
"""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from pycocotools import mask as coco_mask

from solo_jax.data import builder, examples
from solo_jax.data.coco_values import to_int
from solo_jax.data.findings import Findings
from solo_jax.data.label_files import read_label_image
from solo_jax.data.label_pairs import LabelSource, find_pairs, list_images
from solo_jax.data.label_pieces import encode_labels
from solo_jax.data.labeled_images import LabeledPairs, find_splits
from solo_jax.errors import UserError

_FORM = (
  'It names the values of label images: {"0": "wall", "1": "floor", "255": '
  "null}, null for void."
)


def read_classes(path: pathlib.Path) -> dict[int, str | None]:
  """Returns the names of the values in label images.

  Args:
    path: Path of classes.json.

  Returns:
    As `parse_classes`.

  Raises:
    UserError: If it is not a table of names.
  """
  try:
    text = path.read_bytes()
  except OSError as error:
    raise UserError(f"{path} cannot be read ({error}). {_FORM}") from error
  return parse_classes(text, str(path))


def parse_classes(text: bytes, path: str) -> dict[int, str | None]:
  """Returns the names of the values in label images.

  Args:
    text: Content of classes.json.
    path: Its path, for messages.

  Returns:
    Name of each value, by increasing value; None for void.

  Raises:
    UserError: If it is not a table of names.
  """
  try:
    table = json.loads(text)
    names = {to_int(value): name for value, name in table.items()}
  except (ValueError, AttributeError, RecursionError) as error:
    raise UserError(f"{path} cannot be read ({error}). {_FORM}") from error
  wrong = [
    (value, name)
    for value, name in names.items()
    if value is None
    or value < 0
    or not (name is None or (isinstance(name, str) and name))
  ]
  found = [name for name in names.values() if name is not None]
  if wrong or len(set(found)) < len(found) or not found:
    raise UserError(
      f"{path}: need values from 0, each with its own name or null; got "
      f"{wrong[:3] or sorted(found)[:3]}."
    )
  return dict(sorted(names.items()))


@dataclasses.dataclass(frozen=True)
class SemanticPairs(LabeledPairs):
  """A split of pairs.

  Attributes:
    classes: Name of each value, None for void.
    pixels: Number of pixels of each value in the images read so far.
  """

  classes: Mapping[int, str | None] = dataclasses.field(default_factory=dict)
  pixels: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )

  def __getitem__(self, index: int) -> tuple[bytes, examples.ImageRecord]:
    """Returns one image with an object for each of its classes."""
    pair, source = self.pairs[index], self.source
    where = f"{source.labels}: {pair.label_name}"
    try:
      labels, _ = read_label_image(
        source.labels.read(pair.label_name), pair.page
      )
      values, counts = np.unique(labels, return_counts=True)
      unknown = sorted(set(values.tolist()) - self.classes.keys())
      if unknown:
        listed = ", ".join(map(str, unknown[:10]))
        raise UserError(f"has the values {listed}, which classes.json lacks")
      encoded = self._read_image(pair, labels.shape)
    except UserError as error:
      kind = "image or label image that cannot be used"
      raise examples.UnusableImage(kind, f"{where}: {error}.", 0) from error
    self.pixels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    return encoded, examples.ImageRecord(
      image_id=pair.image_id,
      file_name=pair.image_name,
      height=labels.shape[0],
      width=labels.shape[1],
      objects=self._make_objects(pair.image_id, labels),
    )

  def _make_objects(
    self, image_id: int, labels: np.ndarray
  ) -> list[examples.ObjectRecord]:
    """Returns one object per class, without void."""
    values = [value for value, name in self.classes.items() if name is not None]
    label_of = {value: label for label, value in enumerate(values)}
    # 0 may be a class, but the encoder skips it.
    encoded = encode_labels(labels + 1)
    return [
      examples.ObjectRecord(
        annotation_id=image_id * (len(values) + 1) + label_of[value - 1],
        label=label_of[value - 1],
        is_crowd=False,
        rle=rle["counts"],
        area=float(coco_mask.area(rle)),
        box_xywh=tuple(coco_mask.toBbox(rle)),
      )
      for value, rle in encoded.items()
      if value - 1 in label_of
    ]


class SemanticImages(builder.RecordsBuilder):
  """Builder of pairs of image and semantic label image."""

  def __init__(
    self,
    *,
    data_dir: str,
    name: str,
    source: LabelSource,
    validation_fraction: float = 0.1,
    tolerance: builder.Tolerance = builder.TOLERANT,
  ):
    """Makes the builder.

    Args:
      data_dir: Directory of all prepared datasets.
      name: Name below `semantic_images`.
      source: See `label_pairs.find_source`.
      validation_fraction: Used if there is no `index.json`.
      tolerance: How many problems are tolerated.
    """
    super().__init__(data_dir=data_dir, name=name, tolerance=tolerance)
    self._source = source
    self._validation_fraction = validation_fraction
    self._classes = read_classes(source.path / "classes.json")
    self._pixels = collections.Counter()

  def _finish(self, state) -> None:
    """Adds the name and the number of pixels of each value."""
    super()._finish(state)
    self.info.metadata["values"] = [
      f"{value:>5}  {name or '(void)'}: {self._pixels[value]:,} pixels"
      for value, name in self._classes.items()
    ]

  def read_splits(self, dl_manager) -> Mapping[str, Sequence]:
    """Returns the splits, with files paired."""
    del dl_manager  # nothing to download
    findings = Findings()
    pairs = find_pairs(self._source, findings)
    splits = find_splits(self._source, pairs, findings)
    used = [key for key in pairs if splits is None or key in splits]
    names = {v: name for v, name in self._classes.items() if name is not None}
    num_files = len(list_images(self._source, Findings()))
    self.describe(
      builder.Description(
        class_names=tuple(names.values()),
        category_ids=tuple(names),
        is_thing=(False,) * len(names),
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
      split: SemanticPairs(chosen, self._source, self._classes, self._pixels)
      for split, chosen in members.items()
    }
