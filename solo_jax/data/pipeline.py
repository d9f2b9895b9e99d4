"""The endless, resumable stream of training batches; the only use of Grain."""

import dataclasses
import functools
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cv2
import grain
import jax
import numpy as np
from absl import flags, logging

from solo_jax.data import augmentations, mask_frames
from solo_jax.data.batching import make_example, render_sample
from solo_jax.data.records import Records, read_sample
from solo_jax.errors import UserError
from solo_jax.types import Batch, Sample

# Batches prepared in advance; Grain's default of 500 would need gigabytes.
_READ_AHEAD = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
# In addition to the fields of a Batch: the record of each row.
_RECORD_FIELD = "record"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
  """How records become batches.

  Attributes:
    batch_size: Global batch size, over all processes.
    seed: Seed of order and augmentation.
    num_workers: Worker processes; 0 reads in a thread of this process.
    transforms: The `transforms` section of a config: see
      `augmentations.build`, `mask_frames.from_settings` and
      `make_example`.
    keep_empty: Whether to also train on images without instances.
    group_by_orientation: Whether to batch portrait images (higher than wide)
      separately, in the swapped `image_size`. Batches of both kinds alternate
      in proportion to their images, at the same steps in every process.
  """

  batch_size: int
  seed: int
  num_workers: int
  transforms: Mapping[str, Any]
  keep_empty: bool
  group_by_orientation: bool


def train_batches(
  records: Records,
  reading: Reading,
  *,
  step: int,
  process_index: int,
  process_count: int,
) -> Iterator[Batch]:
  """Returns an endless iterator over this process's part of training batches.

  Batch k depends only on `records`, `seed`, `batch_size` and `transforms`: any
  number of workers gives the same stream, the parts of all processes together
  are the global batch, and starting at step k equals the tail of the stream
  from 0. Every epoch covers each image once, in its own order; epochs follow
  each other without a gap, even within a batch.

  Args:
    records: Training split.
    reading: How records become batches.
    step: First batch to yield.
    process_index: Index of this process.
    process_count: Number of processes.

  Returns:
    Iterator of batches of batch_size / process_count rows of numpy arrays; a
    corrupt record is a row with `image_valid` False, and its file is logged
    once. Workers that are killed are restarted at the current batch. Its
    `close()` stops the workers.

  Raises:
    UserError: If there is nothing to train on, or `batch_size` is not a
      multiple of `process_count`.
    RuntimeError: While iterating, if workers are killed at the same batch
      twice.
  """
  if reading.batch_size < 1 or reading.batch_size % process_count:
    raise ValueError(
      f"batch_size {reading.batch_size} must be a positive multiple of the "
      f"number of processes, {process_count}."
    )
  indices = np.arange(len(records))
  if not reading.keep_empty:
    indices = indices[np.asarray(records.num_objects) > 0]
  if not len(indices):
    reason = (
      "all of them without instances; set keep_empty=True or check labels"
      if len(records)
      else "so nothing was prepared"
    )
    raise UserError(
      f"no image to train on: split {records.split!r} at {records.path} has "
      f"{len(records)} images, {reason}."
    )
  height, width = reading.transforms["image_size"]
  groups = [(indices, (height, width))]
  if reading.group_by_orientation:
    is_portrait = np.asarray(records.heights > records.widths)[indices]
    groups = [
      (indices[~is_portrait], (height, width)),
      (indices[is_portrait], (width, height)),
    ]
    groups = [group for group in groups if len(group[0])]
  parts = [
    grain.MapDataset.source(_Epochs(members, reading.seed))
    .seed(reading.seed)
    # Before the slice, so that the augmentation of an image does not depend on
    # the process.
    .random_map(_MakeExample.of(records, members, reading.transforms, size))
    # Each process has a block of the global batch, so that row i is on the same
    # device, and in the same micro-batch, for any number of processes.
    .batch(reading.batch_size // process_count, drop_remainder=True)[
      process_index::process_count
    ]
    for members, size in groups
  ]
  batches = parts[0]
  if len(parts) > 1:
    weights = [float(len(members)) for members, _ in groups]
    batches = grain.MapDataset.mix(parts, weights)
  _init_worker()
  if reading.num_workers and not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # Grain reads flags
  start = functools.partial(_start, batches, reading.num_workers)
  first_row = process_index * (reading.batch_size // process_count)
  return _stream(start, step, records, first_row, start(step))


def _start(
  batches: grain.MapDataset, num_workers: int, step: int
) -> grain.DatasetIterator:
  """Returns an iterator that starts at a step."""
  batches = batches[step:].to_iter_dataset(_READ_AHEAD)
  if num_workers:
    batches = batches.mp_prefetch(
      grain.MultiprocessingOptions(num_workers=num_workers),
      worker_init_fn=_init_worker,
    )
  iterator = iter(batches)
  iterator.start_prefetch()
  return iterator


class _Epochs:
  """An endless sequence: every epoch has all indices in its own order.

  `MapDataset.shuffle().repeat()` does the same, but for few images takes up to
  milliseconds per image: its permutation works on at least 16 bits and repeats
  until it hits an index in range.
  """

  def __init__(self, indices: np.ndarray, seed: int):
    self._indices = indices
    self._seed = seed
    self._order = -1, indices  # epoch, its indices

  def __len__(self) -> int:
    return sys.maxsize

  def __getitem__(self, position: int) -> int:
    epoch, offset = divmod(position, len(self._indices))
    known, order = self._order  # one read: another thread may replace it
    if epoch != known:
      rng = np.random.default_rng((self._seed, epoch))
      order = rng.permutation(self._indices)
      self._order = epoch, order
    return int(order[offset])


@dataclasses.dataclass(frozen=True, kw_only=True)
class _MakeExample(grain.transforms.RandomMap):
  """Reads, augments and packs the record of an index.

  Attributes:
    records: Training split.
    members: Indices of the images to draw others from. [number] int.
    augmentation: From `augmentations.build`.
    targets: Arguments for `make_example`.
  """

  records: Records
  members: np.ndarray
  augmentation: augmentations.Augmentation
  targets: Mapping[str, Any]

  @classmethod
  def of(
    cls,
    records: Records,
    members: np.ndarray,
    transforms: Mapping[str, Any],
    image_size: tuple[int, int],
  ) -> "_MakeExample":
    """Returns the settings of a config's section `transforms`."""
    return cls(
      records=records,
      members=members,
      augmentation=augmentations.build(transforms["augment"], image_size),
      targets=dict(
        image_size=image_size,
        mask_frame=mask_frames.from_settings(transforms),
        max_instances=transforms["max_instances"],
        min_mask_area=transforms["min_mask_area"],
        max_crowds=transforms["max_crowds"],
      ),
    )

  def random_map(
    self, element: int, rng: np.random.Generator
  ) -> dict[str, Any]:
    sample = self._read(element, rng)
    interpolation = self.augmentation.interpolation
    if self.augmentation.eager:
      sample = render_sample(sample, interpolation=interpolation)
    for transform in self.augmentation.eager:
      sample = transform(sample, rng, lambda: self._draw_other(rng))
    example = make_example(sample, interpolation=interpolation, **self.targets)
    return {**example, _RECORD_FIELD: np.array(element)}

  def _read(self, index: int, rng: np.random.Generator) -> Sample:
    return self.augmentation(read_sample(self.records[index]), rng)

  def _draw_other(self, rng: np.random.Generator) -> Sample:
    """Returns another image, augmented with its own random draws."""
    index = int(rng.choice(self.members))
    own_rng = np.random.default_rng(rng.integers(2**63))
    return render_sample(
      self._read(index, own_rng), interpolation=self.augmentation.interpolation
    )


def _init_worker(worker_index: int = 0, worker_count: int = 0) -> None:
  del worker_index, worker_count
  cv2.setNumThreads(
    0
  )  # one thread per worker; more would compete for the cores
  parent = multiprocessing.parent_process()
  if parent is not None:
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
  """Stops a worker whose run was killed; it would wait forever."""
  parent.join()
  os._exit(1)


def _stream(
  start: Callable[[int], grain.DatasetIterator],
  step: int,
  records: Records,
  first_row: int,
  iterator: grain.DatasetIterator,
) -> Iterator[Batch]:
  """Yields batches; logs each corrupt record the first time it occurs."""
  corrupt = set()
  died_at = None
  try:
    while True:
      try:
        rows = next(iterator)
      except RuntimeError as error:
        if "terminated unexpectedly" not in str(error):  # Grain's words
          raise
        if died_at == step:
          raise UserError(
            f"data workers were killed twice at batch {step}; if memory ran "
            "out, lower dataset.num_workers. If it happens again, set it to 0 "
            "to see the error of reading these images"
          ) from error
        logging.warning(
          "a data worker was killed (out of memory?); all are restarted at "
          "batch %d",
          step,
        )
        died_at = step
        iterator.close()
        iterator = start(step)
        continue
      step += 1
      indices = np.array(rows.pop(_RECORD_FIELD))
      rows["row"] = first_row + np.arange(len(indices), dtype=np.int32)
      for index in set(indices[~rows["image_valid"]].tolist()) - corrupt:
        corrupt.add(index)
        # Here and not in the workers, each of which would log it.
        logging.error(
          "%s: image %d (%s) cannot be decoded and is skipped whenever its "
          "turn comes; corrupt images so far: %d",
          records.split,
          records[index]["image_id"],
          records[index]["file_name"].decode(),
          len(corrupt),
        )
      # Workers pass views of shared memory that must be released before the
      # interpreter exits; a plain copy costs 0.1 ms per megabyte.
      yield jax.tree.map(
        lambda x: x if type(x) is np.ndarray else np.array(x), Batch(**rows)
      )
  finally:
    iterator.close()
