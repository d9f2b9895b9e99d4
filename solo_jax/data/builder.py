"""Writes records: the base class of builders and what datasets provide."""

import contextlib
import dataclasses
import functools
import hashlib
import io
import math
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import rich.console
import rich.progress
import tensorflow_datasets as tfds
from etils import epath

from solo_jax.data.examples import (
  ImageRecord,
  ImageSource,
  UnusableImage,
  to_example,
)
from solo_jax.data.file_tree import is_outside, is_text
from solo_jax.data.findings import Findings, list_kinds
from solo_jax.data.prepared_folder import make_features, shard_mark
from solo_jax.data.records import FEDERATED_FIELDS, INDEX_FIELDS
from solo_jax.errors import UserError
from solo_jax.terminal import Console, plural

# Records per shard; TFDS keeps one shard in memory while it writes.
_SHARD_LENGTH = 1024
# Problems listed in the metadata of a prepared dataset; all are counted.
_MAX_PROBLEMS = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tolerance:
  """How much of a dataset may be skipped.

  Attributes:
    is_strict: Whether any problem is an error.
    max_lost: Share of the images, and of the annotations, that may be skipped.
  """

  is_strict: bool = False
  max_lost: float = 0.5


TOLERANT = Tolerance()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
  """What is known about a dataset before its images are read.

  Attributes:
    class_names: Name of each label.
    category_ids: Original category id of each label.
    source: What the dataset was made from, for display.
    findings: Problems, repairs and notes.
    num_images: Images in the source, including those skipped.
    num_annotations: Annotations in the source; 0 if they are not counted.
    num_images_skipped: Images skipped.
    num_annotations_skipped: Annotations skipped, including those skipped with
      their images.
    class_frequencies: 'r' (rare), 'c' (common) or 'f' (frequent) of each
      label, of a federated dataset; empty elsewhere.
    is_thing: Whether each label is a thing, if every pixel is labelled; empty
      elsewhere.
    exif: Whether orientation tags were followed: 'apply' or 'ignore'.
  """

  class_names: Sequence[str]
  category_ids: Sequence[int]
  source: str
  findings: Findings
  num_images: int
  num_annotations: int = 0
  num_images_skipped: int = 0
  num_annotations_skipped: int = 0
  class_frequencies: Sequence[str] = ()
  is_thing: Sequence[bool] = ()
  exif: str = "ignore"


def split_by_ratio(keys: Sequence[str], fraction: float) -> dict[str, str]:
  """Returns ids split into train and validation, the same way every time.

  Args:
    keys: The ids, in any order.
    fraction: Share of validation, in (0, 1); each side gets at least one id.

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


def check_loss(
  source: str,
  totals: tuple[int, int],
  lost: tuple[int, int],
  findings: Findings,
  tolerance: Tolerance,
) -> None:
  """Raises if too much of a dataset would be skipped.

  Args:
    source: What the dataset is made from.
    totals: Numbers of images and annotations in the source.
    lost: Numbers of images and annotations skipped.
    findings: The reasons.
    tolerance: How much may be skipped.

  Raises:
    UserError: Listing the kinds of problems, most frequent first.
  """
  problems = findings.problems
  listed = "\n".join(list_kinds(problems.kinds()))
  if tolerance.is_strict and len(problems):
    lines = "\n  ".join(problems.lines())
    raise UserError(
      f"{source} has {plural(len(problems), 'problem')}; fix them, or leave "
      f"out --strict to skip what they concern:\n{listed}\nIn full:\n  {lines}"
    )
  for total, number, noun in zip(
    totals, lost, ("image", "annotation"), strict=True
  ):
    share = number / total if total else 0  # 0 if they are not counted
    if share >= 1 or share > tolerance.max_lost:
      advice = "fix them"
      if number < total:
        enough = math.ceil(100 * share) / 100
        advice += f", or pass --max_lost={enough} to train on the rest"
      raise UserError(
        f"{source}: {number:,} of {plural(total, noun)} cannot be used, which "
        f"leaves too little; {advice}. {plural(len(problems), 'problem')}:\n"
        f"{listed}"
      )


class RecordsBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
  """Writes splits of images, which a subclass provides.

  Built on `ShardBasedBuilder` because `GeneratorBasedBuilder` sorts through
  temporary files beyond 1 GB, for which it needs TensorFlow; here records
  stream to disk in the order of the source.

  A subclass defines `read_splits(dl_manager)`, which returns the `ImageSource`
  of each split name and calls `describe`.
  """

  VERSION = tfds.core.Version("1.0.0")

  def __init__(
    self, *, data_dir: str, name: str = "", tolerance: Tolerance = TOLERANT
  ):
    """Makes a builder that writes `<data_dir>/<builder>[/<name>]/<version>`.

    Args:
      data_dir: Directory of all prepared datasets.
      name: Name of this dataset below its builder; '' for none.
      tolerance: How many problems are tolerated.

    Raises:
      UserError: If the name points outside of `data_dir`.
    """
    if is_outside(name) or not is_text(name) or "\0" in name:
      raise UserError(
        f"--name={name!r} is not a valid folder name below data_dir {data_dir}."
      )
    self._tolerance = tolerance
    config = tfds.core.BuilderConfig(name=name) if name else None
    super().__init__(data_dir=data_dir, config=config)

  def prepare(self, options: Mapping[str, Any] | None = None) -> pathlib.Path:
    """Writes all splits; an interrupted run leaves no prepared dataset behind.

    TFDS writes into a folder named `incomplete...` and renames it at the end.

    Args:
      options: The requested options, by name; stored, so that a request with
        different options can be recognised.

    Returns:
      The folder of the prepared dataset.

    Raises:
      UserError: If the source is invalid, or more would be skipped than is
        tolerated.
    """
    self.info.metadata["options"] = dict(options or {})
    tfds.disable_progress_bar()  # our own single bar per split instead of three
    columns = rich.progress.Progress.get_default_columns()
    counter = rich.progress.MofNCompleteColumn()
    console = Console(file=sys.stdout)
    # TFDS announces a download of unknown size even if there is none.
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

  def describe(self, description: Description) -> None:
    """Sets the metadata of the dataset.

    Args:
      description: What is known about the dataset.

    Raises:
      UserError: If more is skipped than is tolerated, listing the kinds of
        problems.
    """
    self._findings = description.findings
    self._totals = description.num_images, description.num_annotations
    self.info.metadata.update(
      class_names=list(description.class_names),
      category_ids=list(description.category_ids),
      source=description.source,
      num_images_skipped=description.num_images_skipped,
      num_annotations_skipped=description.num_annotations_skipped,
      class_frequencies=list(description.class_frequencies),
      is_thing=list(description.is_thing),
      exif=description.exif,
      fingerprints={},
    )
    self._record_findings()

  def hold_out(self, keys: Sequence[str], fraction: float) -> dict[str, str]:
    """Returns ids split by `split_by_ratio`; errors also list the problems."""
    try:
      return split_by_ratio(keys, fraction)
    except UserError as error:
      raise UserError(f"{error}{self._explain()}") from error

  def _explain(self) -> str:
    """Returns the kinds of problems as an addition to an error message."""
    problems = self._findings.problems
    if not len(problems):
      return ""
    listed = "\n".join(list_kinds(problems.kinds()))
    return f"\n{plural(len(problems), 'problem')}:\n{listed}"

  def _record_findings(self) -> None:
    """Adds the findings to the metadata, or raises if there are too many."""
    metadata, findings = self.info.metadata, self._findings
    check_loss(
      metadata["source"],
      self._totals,
      (metadata["num_images_skipped"], metadata["num_annotations_skipped"]),
      findings,
      self._tolerance,
    )
    metadata.update(
      num_problems=len(findings.problems),
      problems=findings.problems.lines()[:_MAX_PROBLEMS],
      kinds={
        name: [list(kind) for kind in tally.kinds()]
        for name, tally in vars(findings).items()
      },
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
        raise UserError(
          f"{self.name}: split {split!r} has no images.{self._explain()}"
        )
      task = self._progress.add_task(split, total=len(source))
      state = _SplitState(split, source, task)
      iterators[split] = [
        functools.partial(self._shard, state, start)
        for start in range(0, len(source), _SHARD_LENGTH)
      ]
    return iterators

  def _shard(self, state: "_SplitState", start: int):
    """Yields the examples of one shard; the last one writes the index."""
    source = state.source
    stop = min(start + _SHARD_LENGTH, len(source))
    for i in range(start, stop):
      self._progress.update(state.task, completed=i + 1)
      try:
        encoded, image = source[i]
      except UnusableImage as error:
        self._findings.problems.add(error.kind, str(error))
        metadata = self.info.metadata
        metadata["num_images_skipped"] += 1
        metadata["num_annotations_skipped"] += error.num_annotations
        continue
      for kind, line in image.notes:
        self._findings.notes.add(kind, line)
      yield i, state.add(encoded, image)
    if stop == len(source):
      self._finish(state)

  def _finish(self, state: "_SplitState") -> None:
    """Writes the index of a split after its last record."""
    self._record_findings()
    if not state.rows:
      raise UserError(
        f"{self.name}: split {state.name!r} has no image that can be "
        f"read.{self._explain()}"
      )
    self.info.metadata["fingerprints"][state.name] = state.digest.hexdigest()
    columns = np.asarray(state.rows, np.int64).T
    np.savez(
      pathlib.Path(self.data_dir) / f"{state.name}_index.npz",
      **dict(zip(INDEX_FIELDS, columns, strict=True)),
    )
    if state.federated:
      self._write_federated(state.name, state.federated)

  def _write_federated(self, split, images):
    """Writes which categories were annotated in which image."""
    pairs = {
      field: np.array(
        [(x.image_id, y) for x in images for y in getattr(x, field)], np.int64
      ).reshape(-1, 2)
      for field in FEDERATED_FIELDS
    }
    np.savez(pathlib.Path(self.data_dir) / f"{split}_federated.npz", **pairs)

  def _download_and_prepare(self, dl_manager, download_config):
    """Writes all splits, then marks that identify their files."""
    super()._download_and_prepare(dl_manager, download_config)
    folder = epath.Path(self.data_dir)
    self.info.metadata["shards"] = {
      path.name: shard_mark(path)
      for path in sorted(folder.iterdir())
      if ".array_record" in path.name
    }


class _SplitState:
  """Data collected while a split is written."""

  def __init__(self, name: str, source: ImageSource, task: Any):
    self.name, self.source, self.task = name, source, task
    self.rows = []
    self.federated = []  # images
    self.digest = hashlib.sha256()

  def add(self, encoded: bytes, image: ImageRecord) -> dict[str, Any]:
    """Returns the example of an image and counts it."""
    num_crowds = sum(item.is_crowd for item in image.objects)
    num_objects = len(image.objects) - num_crowds
    self.rows.append(
      (image.image_id, image.height, image.width, num_objects, num_crowds)
    )
    if image.neg_category_ids is not None:
      self.federated.append(image)
    self.digest.update(hashlib.sha256(encoded).digest())
    self.digest.update(repr(dataclasses.replace(image, notes=())).encode())
    return to_example(encoded, image)
