"""Writing records: what a dataset hands over and the base of the builders."""

import contextlib
import dataclasses
import functools
import hashlib
import io
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import rich.console
import rich.progress
import tensorflow_datasets as tfds

from solo_jax.data.file_tree import is_outside, is_text
from solo_jax.data.records import (
  FEDERATED_FIELDS,
  INDEX_FIELDS,
  make_features,
)
from solo_jax.errors import UserError

# Records a shard; TFDS keeps one shard in memory while it writes.
_SHARD_LENGTH = 1024
# Problems kept in the metadata of a prepared dataset; all are counted.
_MAX_PROBLEMS = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectRecord:
  """One annotated object as the builders hand it over.

  Attributes:
    annotation_id: Id in the source, unique within the split.
    label: Class, 0..K-1.
    is_crowd: COCO's iscrowd.
    rle: COCO compressed counts of the visible pixels at original size.
    area: Annotated area in pixels.
    box_xywh: Annotated box in continuous pixels.
  """

  annotation_id: int
  label: int
  is_crowd: bool
  rle: bytes
  area: float
  box_xywh: tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageRecord:
  """One image with its objects, all but the pixels.

  Attributes:
    image_id: Id in the source, unique within the split.
    file_name: Name in the source, for messages.
    height: Height in pixels.
    width: Width in pixels.
    objects: The objects; empty for an image without any.
    neg_category_ids: Of a federated dataset (LVIS): categories verified to be
      absent. None where every category is annotated in every image.
    not_exhaustive_category_ids: Of a federated dataset: categories of which
      only some objects are annotated.
  """

  image_id: int
  file_name: str
  height: int
  width: int
  objects: Sequence[ObjectRecord]
  neg_category_ids: Sequence[int] | None = None
  not_exhaustive_category_ids: Sequence[int] = ()


class UnusableImage(ValueError):
  """An image that is left out of the dataset, as a problem that is counted."""

  def __init__(self, problem: str, num_annotations: int):
    """Makes the error.

    Args:
      problem: One line that names the file.
      num_annotations: Annotations that are left out with the image.
    """
    super().__init__(problem)
    self.num_annotations = num_annotations


class ImageSource(Protocol):
  """A split before it is written."""

  def __len__(self) -> int:
    """Number of images."""

  def __getitem__(self, index: int) -> tuple[bytes, ImageRecord]:
    """Returns one image as the bytes of a JPEG or PNG file, and the rest.

    Raises:
      UnusableImage: If its file turns out to be damaged or of a wrong kind.
    """


def to_example(encoded: bytes, image: ImageRecord) -> dict[str, Any]:
  """Returns what a record is made of, by the names of `make_features`."""
  return {
    "image": encoded,
    "image_id": image.image_id,
    "file_name": image.file_name,
    "height": image.height,
    "width": image.width,
    "objects": [
      {
        "annotation_id": item.annotation_id,
        "label": item.label,
        "is_crowd": item.is_crowd,
        "rle": item.rle,
        "area": np.float64(item.area).tobytes(),
        "bbox": np.asarray(item.box_xywh, np.float64).tobytes(),
      }
      for item in image.objects
    ],
  }


def split_by_ratio(keys: Sequence[str], fraction: float) -> dict[str, str]:
  """Splits ids into train and validation, the same way every time.

  Args:
    keys: The ids, in any order.
    fraction: Of validation, in (0, 1); at least one id falls on either side.

  Returns:
    {id: split}.

  Raises:
    UserError: If there are fewer than two ids or the fraction is out of range.
  """
  keys = sorted(set(keys))
  if len(keys) < 2 or not 0 < fraction < 1:
    raise UserError(
      f"Need 2 images and a validation fraction in (0, 1) to split; got "
      f"{len(keys)} images and {fraction}."
    )
  digest = lambda key: hashlib.sha256(key.encode()).digest()  # noqa: E731
  number = min(max(round(len(keys) * fraction), 1), len(keys) - 1)
  held_out = set(sorted(keys, key=digest)[:number])
  return {key: "validation" if key in held_out else "train" for key in keys}


class RecordsBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
  """Writes splits of images; a subclass says where they come from.

  Built on `ShardBasedBuilder` because `GeneratorBasedBuilder` sorts through
  temporary files beyond 1 GB, for which it needs TensorFlow; here records
  stream to disk in the order of the source.

  A subclass defines `read_splits(dl_manager)`, which returns the `ImageSource`
  of each split name and calls `describe`.
  """

  VERSION = tfds.core.Version("1.0.0")

  def __init__(self, *, data_dir: str, name: str = ""):
    """Makes a builder of `<data_dir>/<builder>[/<name>]/<version>`.

    Args:
      data_dir: Directory of all prepared datasets.
      name: Name of this dataset below its builder; '' for none.

    Raises:
      UserError: If the name leads out of `data_dir`.
    """
    if is_outside(name) or not is_text(name) or "\0" in name:
      raise UserError(
        f"--name={name!r} is no name of a folder below data_dir {data_dir}."
      )
    config = tfds.core.BuilderConfig(name=name) if name else None
    super().__init__(data_dir=data_dir, config=config)

  def prepare(self, options: Mapping[str, Any] | None = None) -> pathlib.Path:
    """Writes all splits; an interrupted run leaves no prepared dataset.

    TFDS writes into a folder named `incomplete...` and renames it at the end.

    Args:
      options: What the dataset was asked for, by name; kept with it, so that
        another request for the same dataset can be told from this one.

    Returns:
      The folder of the prepared dataset.

    Raises:
      UserError: If the source is not as it has to be, or has problems and
        the builder is strict.
    """
    self.info.metadata["options"] = dict(options or {})
    tfds.disable_progress_bar()  # one bar a split of our own instead of three
    columns = rich.progress.Progress.get_default_columns()
    counter = rich.progress.MofNCompleteColumn()
    console = rich.console.Console(file=sys.stdout)
    # TFDS announces a download of unknown size even where there is none.
    with (
      contextlib.redirect_stdout(io.StringIO()),
      rich.progress.Progress(
        *columns, counter, console=console, redirect_stdout=False
      ) as self._progress,
    ):
      self.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        file_format="array_record",
      )
    return pathlib.Path(self.data_dir)

  def announce(self, message: str) -> None:
    """Prints a line above the progress bars."""
    self._progress.console.print(message, markup=False, highlight=False)

  def describe(
    self,
    *,
    class_names: Sequence[str],
    category_ids: Sequence[int],
    source: str,
    problems: Sequence[str],
    num_images_skipped: int = 0,
    num_annotations_skipped: int = 0,
    class_frequencies: Sequence[str] = (),
    is_strict: bool,
  ) -> None:
    """Sets the metadata of the dataset.

    Args:
      class_names: Name of each label.
      category_ids: Original category id of each label.
      source: What the dataset was made from, for people.
      problems: One line for each thing that was skipped.
      num_images_skipped: Images among these.
      num_annotations_skipped: Annotations among these or of these images.
      class_frequencies: 'r' (rare), 'c' (common) or 'f' (frequent) of each
        label, of a federated dataset; empty elsewhere.
      is_strict: Refuse to build with problems, also with those that only
        show when an image is written.

    Raises:
      UserError: If `is_strict` and there are problems; it lists them.
    """
    self._is_strict = is_strict
    self._problems = list(problems)
    self.info.metadata.update(
      class_names=list(class_names),
      category_ids=list(category_ids),
      source=source,
      num_images_skipped=num_images_skipped,
      num_annotations_skipped=num_annotations_skipped,
      class_frequencies=list(class_frequencies),
    )
    self._tell_problems()

  def _tell_problems(self) -> None:
    """Puts the problems into the metadata, or refuses them."""
    metadata, problems = self.info.metadata, self._problems
    if self._is_strict and problems:
      listed = "\n  ".join(problems)
      raise UserError(
        f"{metadata['source']} has {len(problems)} problems; mend them, or "
        f"leave out --strict to skip what they concern:\n  {listed}"
      )
    metadata.update(
      num_problems=len(problems), problems=problems[:_MAX_PROBLEMS]
    )

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      features=make_features(),
      metadata=tfds.core.MetadataDict(),
      disable_shuffling=True,
    )

  def _shard_iterators_per_split(self, dl_manager):
    iterators = {}
    for split, source in self.read_splits(dl_manager).items():
      if not len(source):
        raise UserError(f"{self.name}: split {split!r} has no images.")
      task = self._progress.add_task(split, total=len(source))
      rows = []
      federated = []  # images
      iterators[split] = [
        functools.partial(
          self._shard, split, source, start, task, rows, federated
        )
        for start in range(0, len(source), _SHARD_LENGTH)
      ]
    return iterators

  def _shard(self, split, source, start, task, rows, federated):
    """Yields the examples of one shard; the last one writes the index."""
    stop = min(start + _SHARD_LENGTH, len(source))
    for i in range(start, stop):
      self._progress.update(task, completed=i + 1)
      try:
        encoded, image = source[i]
      except UnusableImage as error:
        self._problems.append(str(error))
        metadata = self.info.metadata
        metadata["num_images_skipped"] += 1
        metadata["num_annotations_skipped"] += error.num_annotations
        continue
      num_crowds = sum(item.is_crowd for item in image.objects)
      num_objects = len(image.objects) - num_crowds
      rows.append(
        (image.image_id, image.height, image.width, num_objects, num_crowds)
      )
      if image.neg_category_ids is not None:
        federated.append(image)
      yield i, to_example(encoded, image)
    if stop == len(source):
      self._tell_problems()
      if not rows:
        raise UserError(
          f"{self.name}: split {split!r} has no image that can be read; the "
          f"first problem is: {self._problems[0]}"
        )
      columns = np.asarray(rows, np.int64).T
      np.savez(
        pathlib.Path(self.data_dir) / f"{split}_index.npz",
        **dict(zip(INDEX_FIELDS, columns, strict=True)),
      )
      if federated:
        self._write_federated(split, federated)

  def _write_federated(self, split, images):
    """Writes which categories were looked for in which image."""
    pairs = {
      field: np.array(
        [(x.image_id, y) for x in images for y in getattr(x, field)], np.int64
      ).reshape(-1, 2)
      for field in FEDERATED_FIELDS
    }
    np.savez(pathlib.Path(self.data_dir) / f"{split}_federated.npz", **pairs)
