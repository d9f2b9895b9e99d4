"""Statistics of a split, and suspicious annotations."""

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from solo_jax import types
from solo_jax.data.records import Records, read_sample
from solo_jax.inspection.selection import Selection
from solo_jax.terminal import plural

# Report annotated areas that differ from the mask's by more than this share.
AREA_TOLERANCE = 0.2
# Overlap of two objects of a class from which they count as duplicates.
REPEATED = 0.9
_NUM_LISTED = 5  # examples of a finding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistics:
  """Statistics of a split.

  Attributes:
    split: Name of the split.
    num_images: Images of the whole split; likewise `num_instances` (without
      crowds), `num_crowds`, `num_empty` (images without instances) and
      `most_instances` (per image).
    heights: Heights of all images, pixels. [num_images] int64.
    widths: Widths of all images, pixels. [num_images] int64.
    num_examined: Images that were decoded; all that follows refers to these,
      except `instances_per_image`.
    instances_of_class: Instances of each class by name.
    images_of_class: Images with such instances.
    object_sizes: sqrt(area) of the instances' masks, empty ones left out,
      pixels. [n] float64.
    object_extents: Longer side of the instances' boxes, pixels. [n] float64.
    instances_per_image: [num_images] int64.
    num_grey: Images whose channels are equal.
    num_16_bit: Images of 16 bits.
    findings: Lines about annotations that look wrong.
    digests: Hash of the encoded pixels of each image -> its file name.
  """

  split: str
  num_images: int
  num_instances: int
  num_crowds: int
  num_empty: int
  most_instances: int
  heights: np.ndarray
  widths: np.ndarray
  num_examined: int
  instances_of_class: dict[str, int]
  images_of_class: dict[str, int]
  object_sizes: np.ndarray
  object_extents: np.ndarray
  instances_per_image: np.ndarray
  num_grey: int
  num_16_bit: int
  findings: list[str]
  digests: dict[str, str]

  @property
  def short_sides(self) -> np.ndarray:
    """Returns the short sides of all images in pixels. [num_images] int64."""
    return np.minimum(self.heights, self.widths)

  @property
  def long_sides(self) -> np.ndarray:
    """Returns the long sides of all images in pixels. [num_images] int64."""
    return np.maximum(self.heights, self.widths)

  @property
  def num_portrait(self) -> int:
    """Returns the number of images that are higher than wide."""
    return int((self.heights > self.widths).sum())

  def num_trained(self, keep_empty: bool) -> int:
    """Returns the number of images that are trained on.

    Args:
      keep_empty: `dataset.keep_empty` of the configuration.
    """
    return self.num_images - (0 if keep_empty else self.num_empty)


def examine(
  selection: Selection, on_image: Callable[[], None] = lambda: None
) -> Statistics:
  """Returns the counts of a split and the annotations that look wrong.

  Args:
    selection: Images to decode.
    on_image: Called after each image.

  Returns:
    The statistics.
  """
  records = selection.records
  instances = collections.Counter()
  images = collections.Counter()
  sizes, extents, digests = [np.zeros(0)], [np.zeros(0)], {}
  suspects = collections.defaultdict(list)
  num_grey = num_16_bit = 0
  for index in range(len(selection)):
    record = selection[index]
    sample = read_sample(record)
    digests[hashlib.sha256(record["image"]).hexdigest()] = sample.file_name
    if sample.is_corrupt:
      suspects["cannot be decoded"].append(_name(sample))
      on_image()
      continue
    is_object = ~sample.is_crowd
    labels = sample.labels[is_object]
    instances.update(labels.tolist())
    images.update(set(labels.tolist()))
    areas = sample.masks.areas()[is_object]
    sizes.append(np.sqrt(areas[areas > 0]))
    boxes = sample.boxes_xyxy[is_object]
    extents.append((boxes[:, 2:] - boxes[:, :2]).max(1, initial=0))
    num_grey += _is_grey(sample.image)
    num_16_bit += sample.image.dtype == np.uint16
    for problem, annotations in _find_suspects(sample, areas).items():
      suspects[problem] += annotations
    on_image()
  names = unique_names(selection.class_names, records.category_ids)
  return Statistics(
    split=records.split,
    num_images=len(records),
    num_instances=int(records.num_objects.sum()),
    num_crowds=int(records.num_crowds.sum()),
    num_empty=int((records.num_objects == 0).sum()),
    most_instances=int(records.num_objects.max()),
    heights=np.asarray(records.heights),
    widths=np.asarray(records.widths),
    num_examined=len(selection),
    instances_of_class={n: instances[i] for i, n in enumerate(names)},
    images_of_class={n: images[i] for i, n in enumerate(names)},
    object_sizes=np.concatenate(sizes),
    object_extents=np.concatenate(extents),
    instances_per_image=np.asarray(records.num_objects),
    num_grey=int(num_grey),
    num_16_bit=int(num_16_bit),
    findings=[_tell(k, v) for k, v in suspects.items()],
    digests=digests,
  )


def compare_splits(train: Statistics, validation: Statistics) -> list[str]:
  """Returns differences between splits that would make a score misleading.

  Args:
    train: Statistics of the split to train on.
    validation: Statistics of the split to evaluate.

  Returns:
    Lines.
  """
  findings = []
  if train.split != validation.split:
    shared = sorted(train.digests.keys() & validation.digests.keys())
    if shared:
      names = [train.digests[key] for key in shared]
      findings.append(
        _tell(
          f"in {train.split!r} and in {validation.split!r}, byte for byte",
          names,
        )
      )
  counts = train.instances_of_class, validation.instances_of_class
  is_sample = train.num_examined < train.num_images
  among = (
    f" among the {train.num_examined} images examined" if is_sample else ""
  )
  unseen = [name for name, count in counts[0].items() if not count]
  if unseen:
    findings.append(_tell(f"no instance to train on{among}", unseen, "class"))
  never = [n for n, count in counts[0].items() if not count and counts[1][n]]
  if never:
    findings.append(
      _tell("evaluated but never trained" + among, never, "class")
    )
  return findings


def find_unused(train: Records, evaluated: Records) -> list[str]:
  """Returns the images of the dataset that the configuration does not use.

  Args:
    train: The split to train on, or the part of one.
    evaluated: The split to evaluate, or the part of one.

  Returns:
    Lines, each with the flag that adds such images.
  """
  findings = []
  sizes = train.split_sizes
  others = [name for name in sizes if name != train.whole_split]
  if train.split == evaluated.split:
    advice = "; ".join(
      f"--config.dataset.eval_split={name} takes {sizes[name]} others"
      for name in others
    )
    findings.append(
      f"training and evaluation use the same split, {train.split!r}: the score "
      "does not predict the score on other images"
      + (f"; {advice}" if advice else "")
    )
  for records, field, does in (
    (train, "train_split", "trains on"),
    (evaluated, "eval_split", "evaluates on"),
  ):
    name = records.whole_split
    used = {
      image_id
      for other in (train, evaluated)
      if other.whole_split == name
      for image_id in other.image_ids.tolist()
    }
    # If two parts make up a split, nothing is unused. Evaluating on more of the
    # training split is not suggested.
    is_advice = field == "train_split" or name in others
    if len(used) < sizes[name] and is_advice:
      findings.append(
        f"{does} {len(records)} of {sizes[name]} images: dataset.{field}="
        f"{records.split!r}; --config.dataset.{field}={name} takes all"
      )
  return findings


def list_findings(
  train: Records,
  evaluated: Records,
  splits: Sequence[Statistics],
  *,
  num_classes: int,
  keep_empty: bool,
) -> list[str]:
  """Returns what is or looks wrong.

  Args:
    train: The training split.
    evaluated: The evaluation split.
    splits: Statistics of the training and of the evaluation split; a single one
      if they are the same.
    num_classes: `dataset.num_classes` of the configuration.
    keep_empty: `dataset.keep_empty` of the configuration.

  Returns:
    Lines.
  """
  metadata = train.metadata
  findings = list_prepared(metadata)
  for part in splits:
    findings += [f"{part.split}: {line}" for line in part.findings]
  findings += find_unused(train, evaluated)
  findings += compare_splits(splits[0], splits[-1])
  found = len(train.class_names)
  if num_classes != found:
    findings.append(
      f"dataset.num_classes is {num_classes}, the dataset has {found}; {found} "
      "is used here"
    )
  if not keep_empty and splits[0].num_empty:
    findings.append(
      "skipped in training: no instances (dataset.keep_empty=False): "
      f"{splits[0].num_empty} images"
    )
  if splits[0].num_crowds:
    findings.append(
      "not trained on, ignored in the evaluation: "
      f"{splits[0].num_crowds} crowd regions"
    )
  if splits[0].num_16_bit:
    findings.append(
      "16-bit images, converted to 8 bits by their own contrast: "
      f"{splits[0].num_16_bit} images"
    )
  return findings


def list_prepared(metadata: Mapping[str, Any]) -> list[str]:
  """Returns what was found while a dataset was prepared.

  Args:
    metadata: Metadata of its records.

  Returns:
    Lines, the most frequent kind of problem first, then repairs and notes.
  """
  if "kinds" not in metadata:  # prepared before kinds were counted
    lines = [f"prepare: {line}" for line in metadata["problems"]]
    if metadata["num_problems"] > len(lines):
      lines.append(f"prepare: {metadata['num_problems']} problems in total")
    return lines
  titles = {
    "problems": "skipped",
    "repairs": "repaired",
    "notes": "note",
  }
  return [
    f"prepare: {title}: {count} x {name}; for example {example}"
    for key, title in titles.items()
    for name, count, example in metadata["kinds"][key]
  ]


def unique_names(
  names: Sequence[str], category_ids: Sequence[int]
) -> list[str]:
  """Returns unique names; repeated ones get their id.

  Older prepared datasets may repeat a name.

  Args:
    names: Names of the classes.
    category_ids: Their original ids.
  """
  counts = collections.Counter(names)
  return [
    name if counts[name] == 1 else f"{name} (id {key})"
    for name, key in zip(names, category_ids, strict=True)
  ]


def _find_suspects(sample, areas):
  """Adds the annotations of a sample that look wrong, by problem."""
  found = collections.defaultdict(list)
  is_object = ~sample.is_crowd
  ids = sample.annotation_ids[is_object]
  boxes = sample.boxes_xyxy[is_object]
  labels = sample.labels[is_object]
  given = sample.areas[is_object]
  for i, key in enumerate(ids):
    name = f"{_name(sample)} annotation {key}"
    if not areas[i]:
      found["mask is empty"].append(name)
    elif abs(given[i] - areas[i]) > AREA_TOLERANCE * areas[i] + 4:
      # Size classes of the metrics go by the annotated area.
      found[
        "annotated area differs from the mask's by more than a fifth"
      ].append(f"{name} ({given[i]:.0f}, {areas[i]})")
  for i, j in _overlapping(boxes, labels):
    first, second = sample.masks[np.flatnonzero(is_object)[[i, j]]]
    shared = np.count_nonzero(first & second)
    if shared > REPEATED * np.count_nonzero(first | second):
      found["the same object twice"].append(
        f"{_name(sample)} annotations {ids[i]} and {ids[j]}"
      )
  return found


def _overlapping(boxes, labels):
  """Lists pairs (i, j) of a class whose boxes are nearly the same."""
  low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
  high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
  shared = (high - low).clip(0).prod(-1)
  area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
  union = area[:, None] + area[None] - shared
  same = (shared > 0.8 * union) & (labels[:, None] == labels[None])
  return np.argwhere(np.triu(same, k=1))


def _is_grey(image: np.ndarray) -> bool:
  return bool(
    (image[..., 0] == image[..., 1]).all()
    and (image[..., 0] == image[..., 2]).all()
  )


def _name(sample: types.Sample) -> str:
  return f"image {sample.image_id} ({sample.file_name})"


def _tell(problem: str, names: list[str], kind: str = "") -> str:
  shown = ", ".join(names[:_NUM_LISTED])
  more = ", ..." if len(names) > _NUM_LISTED else ""
  count = plural(len(names), kind) if kind else len(names)
  return f"{problem}: {count}: {shown}{more}"
