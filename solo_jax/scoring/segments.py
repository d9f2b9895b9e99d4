"""Panoptic quality and mean IoU of a split with labels for every pixel."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

from solo_jax import parallel
from solo_jax.data import records as data_records
from solo_jax.evaluation.mean_iou import MeanIou
from solo_jax.evaluation.panoptic_quality import PanopticQuality
from solo_jax.inference.segmentation import Segmenter

VOID = 255  # label of pixels that do not count, as KINDS of 255 classes or more
_NAMES = {None: "", True: "_things", False: "_stuff"}


def evaluate_segments(
  segmenter: Segmenter, records: data_records.Records
) -> dict[str, float | None]:
  """Returns the metrics of every record's maps, compared with the truth.

  A corrupt image is logged and does not count. Each process handles a part of
  the images; all get all results.

  Args:
    segmenter: Makes panoptic maps if the records have things, and semantic
      maps.
    records: Split whose `is_thing` is not empty.

  Returns:
    PQ, SQ and RQ of all classes, of things and of stuff (PQ_things, ...), if
    the data have things; num_PQ_classes, the number of classes in the mean; and
    mean_IoU of the classes that occur in the truth. None without such classes.
  """
  num_classes = len(records.class_names)
  void = max(VOID, num_classes)
  quality = PanopticQuality(dict(enumerate(records.is_thing)))
  overlap = MeanIou(num_classes, ignored=void)
  for index in range(jax.process_index(), len(records), jax.process_count()):
    sample = data_records.read_sample(records[index])
    if sample.is_corrupt:
      logging.error(
        "image %d (%s) cannot be decoded: left out of panoptic quality and "
        "mean IoU",
        sample.image_id,
        sample.file_name,
      )
      continue
    truth_ids, truth = truth_map(sample)
    labels = _to_labels(truth_ids, {k: x[0] for k, x in truth.items()}, void)
    found = segmenter(sample.image)
    if "panoptic" in found:
      segments = found["panoptic"].segments
      quality.add(
        truth_ids,
        truth,
        found["panoptic"].ids,
        {segment.id: segment.label for segment in segments},
      )
    if "semantic" in found:
      overlap.add(labels, found["semantic"].ids - 1)
  return _summarize(quality, overlap, records.is_thing)


def truth_map(sample: Any) -> tuple[np.ndarray, dict[int, tuple[int, bool]]]:
  """Returns the segments of a record as one map.

  Args:
    sample: From `records.read_sample`, with disjoint masks.

  Returns:
    Segment of each pixel, from 1 in the order of the record, 0 for void,
    [H0, W0] int32; and (label, is crowd) of each segment.
  """
  ids = np.zeros(sample.original_size, np.int32)
  segments = {}
  for i, label in enumerate(sample.labels.tolist(), start=1):
    ids[np.asarray(sample.masks[i - 1], bool)] = i
    segments[i] = label, bool(sample.is_crowd[i - 1])
  return ids, segments


def _to_labels(
  ids: np.ndarray, labels: Mapping[int, int], void: int
) -> np.ndarray:
  """Returns the label of each pixel. [H, W] int32."""
  table = np.full(max(labels, default=0) + 1, void, np.int32)
  for key, label in labels.items():
    table[key] = label
  return table[ids]


def _summarize(
  quality: PanopticQuality, overlap: MeanIou, is_thing: tuple[bool, ...]
) -> dict[str, float | None]:
  """Returns the means over the results of all processes, by name."""
  parts = parallel.gather_json(
    dict(
      counts={
        str(key): [x.matched, x.extra, x.missed, x.iou]
        for key, x in quality.counts.items()
      },
      confusion=overlap.confusion.tolist(),
    )
  )
  for key, counts in quality.counts.items():
    rows = [part["counts"][str(key)] for part in parts]
    counts.matched, counts.extra, counts.missed = (
      sum(row[i] for row in rows) for i in range(3)
    )
    counts.iou = float(sum(row[3] for row in rows))
  overlap.confusion = np.sum([part["confusion"] for part in parts], axis=0)
  metrics = {}
  for kind, ending in _NAMES.items():
    if not any(is_thing):
      break  # a semantic split: each class is one segment
    found = quality.summarize(kind)
    values = dict(PQ=found.pq, SQ=found.sq, RQ=found.rq)
    for name, value in values.items():
      metrics[name + ending] = value if found.num_categories else None
    if kind is None:
      metrics["num_PQ_classes"] = found.num_categories
  mean = overlap.summarize()["mean_iou"]
  return metrics | {"mean_IoU": None if np.isnan(mean) else mean}
