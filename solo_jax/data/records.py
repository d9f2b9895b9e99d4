"""What a record holds: written by the three builders, read by everything else.

A split is a row of ArrayRecord shards in the order of the source, with one
small index file (`<split>_index.npz`) beside them, so that sizes and object
counts are known without reading a single image.
"""

import dataclasses
import functools
import io
import pathlib
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import cv2
import numpy as np
import PIL.Image
import rich.progress
import tensorflow_datasets as tfds
from pycocotools import mask as coco_mask

from solo_jax.types import Sample

# Records a shard; TFDS keeps one shard in memory while it writes.
_SHARD_LENGTH = 1024
_INDEX_FIELDS = ("image_id", "height", "width", "num_objects")


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
  """One image with its objects as the builders hand it over.

  Attributes:
    encoded: The bytes of a JPEG or PNG file, 8 or 16 bit.
    image_id: Id in the source, unique within the split.
    file_name: Name in the source, for messages.
    height: Height in pixels.
    width: Width in pixels.
    objects: The objects; empty for an image without any.
  """

  encoded: bytes
  image_id: int
  file_name: str
  height: int
  width: int
  objects: Sequence[ObjectRecord]


class ImageSource(Protocol):
  """A split before it is written: a sequence that makes `ImageRecord`s."""

  def __len__(self) -> int:
    """Number of images."""

  def __getitem__(self, index: int) -> ImageRecord:
    """Reads or draws one image."""


def make_features() -> tfds.features.FeaturesDict:
  """Returns the features of a record, the same for every builder.

  float64 features are stored as float32 by TFDS, so areas and boxes travel
  as the eight bytes of each float64 in a Text feature, which is lossless.
  """
  return tfds.features.FeaturesDict(
    {
      "image": tfds.features.Image(),
      "image_id": np.int64,
      "file_name": tfds.features.Text(),
      "height": np.int32,
      "width": np.int32,
      "objects": tfds.features.Sequence(
        {
          "annotation_id": np.int64,
          "label": np.int64,
          "is_crowd": np.bool_,
          "rle": tfds.features.Text(),
          "area": tfds.features.Text(),
          "bbox": tfds.features.Text(),
        }
      ),
    }
  )


def _to_example(image: ImageRecord) -> dict[str, Any]:
  return {
    "image": image.encoded,
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


class RecordsBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
  """Writes splits of `ImageRecord`s; a subclass says where they come from.

  Built on `ShardBasedBuilder` because `GeneratorBasedBuilder` sorts through
  temporary files beyond 1 GB, for which it needs TensorFlow; here records
  stream to disk in the order of the source.

  A subclass defines `read_splits`, and may fill `self.info.metadata` there.
  """

  VERSION = tfds.core.Version("1.0.0")

  def __init__(self, *, data_dir: str, name: str = ""):
    """Makes a builder of `<data_dir>/<builder>[/<name>]/<version>`.

    Args:
      data_dir: Directory of all prepared datasets.
      name: Name of this dataset below its builder; '' for none.
    """
    config = tfds.core.BuilderConfig(name=name) if name else None
    super().__init__(data_dir=data_dir, config=config)

  def read_splits(
    self, dl_manager: tfds.download.DownloadManager
  ) -> Mapping[str, ImageSource]:
    """Returns the images of each split, in the order to write them."""
    raise TypeError(f"{type(self).__name__} defines no read_splits.")

  def prepare(self, **download_options: Any) -> None:
    """Writes all splits; an interrupted run leaves no prepared dataset.

    TFDS writes into a folder named `incomplete...` and renames it at the end.

    Args:
      **download_options: Fields of `tfds.download.DownloadConfig`.
    """
    tfds.disable_progress_bar()  # one bar a split of our own instead of three
    self.download_and_prepare(
      download_config=tfds.download.DownloadConfig(
        try_download_gcs=False, **download_options
      ),
      file_format="array_record",
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
        raise ValueError(f"{self.name}: split {split!r} has no images.")
      progress = rich.progress.Progress(
        *rich.progress.Progress.get_default_columns(),
        rich.progress.MofNCompleteColumn(),
      )
      rows = []
      starts = range(0, len(source), _SHARD_LENGTH)
      iterators[split] = [
        functools.partial(
          self._generate_shard, split, source, start, rows, progress
        )
        for start in starts
      ]
    return iterators

  def _generate_shard(self, split, source, start, rows, progress):
    """Yields the examples of one shard; the last one writes the index."""
    stop = min(start + _SHARD_LENGTH, len(source))
    if start == 0:
      progress.add_task(split, total=len(source))
    with progress:
      for i in range(start, stop):
        image = source[i]
        num_objects = sum(not item.is_crowd for item in image.objects)
        rows.append((image.image_id, image.height, image.width, num_objects))
        yield i, _to_example(image)
        progress.update(progress.task_ids[0], completed=i + 1)
    if stop == len(source):
      columns = np.asarray(rows, np.int64).T
      np.savez(
        pathlib.Path(self.data_dir) / f"{split}_index.npz",
        **dict(zip(_INDEX_FIELDS, columns, strict=True)),
      )


class Records:
  """Random access to the records of a split; cheap to pickle to a worker.

  Attributes:
    path: Folder of the prepared dataset.
    split: The split as asked for, such as 'train' or 'train[:8]'.
    class_names: Name of each label.
    category_ids: Original category id of each label.
    image_ids: [len] int64.
    heights: [len] int64, pixels.
    widths: [len] int64, pixels.
    num_objects: Instances of each image without crowds. [len] int64.
  """

  def __init__(self, path: pathlib.Path, split: str):
    """Opens a split; `open_records` finds the path."""
    self.path = path
    self.split = split
    info = tfds.builder_from_directory(path).info
    name, start, stop = _parse_split(split, sorted(info.splits), path)
    self.class_names = tuple(info.metadata["class_names"])
    self.category_ids = tuple(info.metadata["category_ids"])
    with np.load(path / f"{name}_index.npz") as index:
      rows = slice(start, stop).indices(len(index["image_id"]))[:2]
      ids, heights, widths, num_objects = (
        index[field][slice(*rows)] for field in _INDEX_FIELDS
      )
    if not len(ids):
      raise ValueError(f"Split {split!r} of {path} selects no images.")
    self.image_ids, self.heights = ids, heights
    self.widths, self.num_objects = widths, num_objects
    self._name, self._start, self._source = name, rows[0], None

  def __len__(self) -> int:
    return len(self.image_ids)

  def __getitem__(self, index: int) -> dict[str, Any]:
    """Returns one record with the image still encoded.

    Args:
      index: 0 <= index < len.

    Returns:
      The fields of `make_features`, the image as bytes.
    """
    index = range(len(self))[index]  # IndexError beyond the end
    if self._source is None:
      self._source = tfds.builder_from_directory(self.path).as_data_source(
        self._name, decoders={"image": tfds.decode.SkipDecoding()}
      )
    return self._source[self._start + index]

  def __repr__(self) -> str:
    return f"Records({str(self.path)!r}, {self.split!r}, len={len(self)})"

  def __getstate__(self) -> dict[str, Any]:
    return self.__dict__ | {"_source": None}


def _parse_split(split, known, path):
  """Splits 'train[2:8]' into ('train', 2, 8)."""
  match = re.fullmatch(r"(\w+)(?:\[(-?\d*):(-?\d*)\])?", split)
  if not match or match[1] not in known:
    raise ValueError(
      f"Unknown split {split!r} of {path}; it has {', '.join(known)}, whole "
      "or a part such as 'train[:8]'."
    )
  start, stop = (int(x) if x else None for x in match.groups()[1:])
  return match[1], start, stop


def find_prepared(data_dir: str, name: str) -> pathlib.Path | None:
  """Finds the newest complete version of a prepared dataset.

  Args:
    data_dir: Directory of all prepared datasets.
    name: '<builder>' or '<builder>/<config>'.

  Returns:
    Its folder, or None if there is none.
  """
  versions = [
    path.parent
    for path in pathlib.Path(data_dir, name).glob("*/dataset_info.json")
    if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
  ]
  key = lambda path: tuple(int(x) for x in path.name.split("."))  # noqa: E731
  return max(versions, key=key, default=None)


def open_records(data_dir: str, name: str, split: str) -> Records:
  """Opens a split of a prepared dataset.

  Args:
    data_dir: Directory of all prepared datasets.
    name: '<builder>' or '<builder>/<config>' below it.
    split: Such as 'train', or a slice 'train[8:16]' in the order of the source.

  Returns:
    The records of the newest version.

  Raises:
    FileNotFoundError: If nothing is prepared there.
    ValueError: If the split is unknown or selects nothing.
  """
  path = find_prepared(data_dir, name)
  if path is None:
    builder, _, config = name.partition("/")
    source = "" if builder == "shapes" else " --source=..."
    config = f" --name={config}" if config else ""
    raise FileNotFoundError(
      f"No prepared dataset {name!r} in data_dir {str(data_dir)!r}. Make it "
      f"with: python -m solo_jax.prepare --dataset={builder}{source}{config} "
      f"--data_dir={data_dir}"
    )
  return Records(path, split)


def decode_image(encoded: bytes) -> np.ndarray | None:
  """Decodes an image file.

  EXIF orientation is ignored: annotations refer to the pixels as stored.

  Args:
    encoded: JPEG, PNG or TIFF bytes.

  Returns:
    RGB, grey repeated, alpha dropped. [H, W, 3] uint8 or uint16; None if the
    bytes are no such image or end too early.
  """
  # OpenCV fills what a truncated file lacks with grey and returns it. Nearly
  # every file ends with its end marker; Pillow judges the few that do not.
  if not encoded.endswith((b"\xff\xd9", b"IEND\xaeB`\x82")):
    try:
      with PIL.Image.open(io.BytesIO(encoded)) as image:
        image.load()
    except (OSError, SyntaxError, ValueError, zlib.error):
      return None
  flags = (
    cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
  )
  try:
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
  except cv2.error:
    return None


def read_sample(record: Mapping[str, Any]) -> Sample:
  """Decodes a record.

  Args:
    record: From `Records`.

  Returns:
    The sample in its original frame. If the image cannot be decoded, a blank
    one of the recorded size without instances, with `is_corrupt` set. The
    masks are views with column-major planes.
  """
  height, width = int(record["height"]), int(record["width"])
  image = decode_image(record["image"])
  is_corrupt = image is None or image.shape[:2] != (height, width)
  if is_corrupt:
    image = np.zeros((height, width, 3), np.uint8)
  objects = record["objects"]
  num = 0 if is_corrupt else len(objects["rle"])
  masks = np.zeros((0, height, width), bool)
  if num:
    planes = coco_mask.decode(
      [{"size": [height, width], "counts": rle} for rle in objects["rle"]]
    )  # [H, W, N], column-major
    masks = planes.view(bool).transpose(2, 0, 1)
  boxes = np.frombuffer(b"".join(objects["bbox"][:num]), np.float64)
  boxes = boxes.reshape(num, 4)
  return Sample(
    image=image,
    masks=masks,
    labels=np.asarray(objects["label"][:num], np.int32),
    areas=np.frombuffer(b"".join(objects["area"][:num]), np.float64),
    boxes_xyxy=np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
    is_crowd=np.asarray(objects["is_crowd"][:num], bool),
    annotation_ids=np.asarray(objects["annotation_id"][:num], np.int64),
    image_id=int(record["image_id"]),
    file_name=record["file_name"].decode(),
    original_size=(height, width),
    affine=np.eye(2, 3),
    image_size=(height, width),
    is_corrupt=is_corrupt,
  )


def to_coco(records: Records) -> dict[str, Any]:
  """Returns the annotations of a split in COCO's format.

  Args:
    records: Any split.

  Returns:
    What `pycocotools.coco.COCO.dataset` holds: images, annotations (RLE at
    original size; ids, areas and boxes exactly as in the source), categories
    with their original ids.
  """
  images, annotations = [], []
  for i in range(len(records)):
    record = records[i]
    size = [int(record["height"]), int(record["width"])]
    image_id, objects = int(record["image_id"]), record["objects"]
    file_name = record["file_name"].decode()
    images.append(
      dict(id=image_id, file_name=file_name, height=size[0], width=size[1])
    )
    for j, rle in enumerate(objects["rle"]):
      annotations.append(
        dict(
          id=int(objects["annotation_id"][j]),
          image_id=image_id,
          category_id=records.category_ids[int(objects["label"][j])],
          iscrowd=int(objects["is_crowd"][j]),
          area=float(np.frombuffer(objects["area"][j], np.float64)[0]),
          bbox=np.frombuffer(objects["bbox"][j], np.float64).tolist(),
          segmentation={"size": size, "counts": rle.decode()},
        )
      )
  pairs = zip(records.category_ids, records.class_names, strict=True)
  categories = [dict(id=key, name=name) for key, name in pairs]
  return dict(images=images, annotations=annotations, categories=categories)
