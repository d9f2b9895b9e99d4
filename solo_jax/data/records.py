"""Reads records.

A split is a sequence of ArrayRecord shards in the order of the source, with a
small index file (`<split>_index.npz`) next to them, so that sizes and object
counts are known without reading any image.
"""

import hashlib
import io
import re
import shlex
import zipfile
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from solo_jax.data.image_files import is_complete, stored_size
from solo_jax.data.prepared_folder import (
  check_shards,
  make_features,
  open_folder,
  shard_mark,
)
from solo_jax.data.rle_masks import RleMasks
from solo_jax.data.stuff_archive import open_maps, read_map, stuff_archive
from solo_jax.errors import UserError
from solo_jax.types import NO_STUFF, Sample

# Columns of a split's index file, each [number of images] int64.
INDEX_FIELDS = ("image_id", "height", "width", "num_objects", "num_crowds")
# Pairs (image id, category id) of `<split>_federated.npz`, [n, 2] int64 each;
# only splits of a federated dataset (LVIS) have this file.
FEDERATED_FIELDS = ("neg_category_ids", "not_exhaustive_category_ids")


class Records:
  """Random access to the records of a split; cheap to send to a worker.

  Attributes:
    path: Folder of the prepared dataset.
    split: The requested split, such as 'train' or 'train[:8]'.
    whole_split: The split that it is a part of, such as 'train'.
    split_sizes: Images of each split of the dataset, by name.
    class_names: Name of each label.
    category_ids: Original category id of each label.
    image_ids: [len] int64.
    heights: [len] int64, pixels.
    widths: [len] int64, pixels.
    num_objects: Instances of each image without crowds. [len] int64.
    num_crowds: Crowd regions of each image. [len] int64.
    is_thing: Whether each label is a thing, if every pixel is labelled
      (panoptic or semantic data); empty elsewhere.
    metadata: The metadata set by `RecordsBuilder.describe`.
    fingerprint: Fingerprint of the whole split's images, annotations and
      classes: equal only for equal content. For older datasets without
      fingerprints, that of the index and the ends of the files.
    has_stuff: Whether the dataset has stuff maps, see stuff_maps.py.
    federated: The FEDERATED_FIELDS of a federated dataset; None for others.
  """

  def __init__(self, path: epath.Path, split: str):
    """Opens a split; `open_records` finds the path and lists the errors."""
    self.path = path
    self.split = split
    info = open_folder(path).info
    name, start, stop = _parse_split(split, sorted(info.splits), path)
    self.whole_split = name
    self.split_sizes = {k: v.num_examples for k, v in info.splits.items()}
    self.metadata = dict(info.metadata)
    self.class_names = tuple(info.metadata["class_names"])
    self.category_ids = tuple(info.metadata["category_ids"])
    self.is_thing = tuple(info.metadata.get("is_thing", ()))  # not in old ones
    columns = _read_index(path / f"{name}_index.npz")
    check_shards(info.splits[name], self.metadata.get("shards", {}))
    self.fingerprint = self._make_fingerprint(columns, info.splits[name])
    start, stop, _ = slice(start, stop).indices(len(columns[0]))
    if start >= stop:
      raise UserError(f"Split {split!r} of {path} selects no images.")
    columns = [column[start:stop] for column in columns]
    self.image_ids, self.heights, self.widths = columns[:3]
    self.num_objects, self.num_crowds = columns[3:]
    self.federated = None
    federated = path / f"{name}_federated.npz"
    if federated.exists():
      with np.load(io.BytesIO(federated.read_bytes())) as pairs:
        self.federated = {field: pairs[field] for field in FEDERATED_FIELDS}
    self._name, self._start, self._source = name, start, None
    self.has_stuff = stuff_archive(path, name).exists()
    self._stuff = None

  def __len__(self) -> int:
    return len(self.image_ids)

  def __getitem__(self, index: int) -> dict[str, Any]:
    """Returns one record with the image still encoded.

    Args:
      index: 0 <= index < len.

    Returns:
      The fields of `make_features`, the image as bytes. A record that is
      damaged on disk is returned with an empty image and without objects, which
      `read_sample` turns into a corrupt sample.
    """
    index = range(len(self))[index]  # IndexError beyond the end
    if self._source is None:
      self._source = open_folder(self.path).as_data_source(
        self._name, decoders={"image": tfds.decode.SkipDecoding()}
      )
    try:
      record = self._source[self._start + index]
    except RuntimeError as error:  # ArrayRecord raises various exceptions
      if "corrupted" not in str(error).lower():
        raise
      return self._damaged(index)
    if record["image_id"] != self.image_ids[index]:
      raise UserError(
        f"record {self._start + index} of split {self._name!r} of {self.path} "
        f"is image {record['image_id']}, but its index says "
        f"{self.image_ids[index]}: files of two datasets are mixed; prepare it "
        "again"
      )
    return record | self._read_stuff(record["image_id"])

  def _read_stuff(self, image_id: int) -> dict[str, bytes]:
    """Returns the map of an image, if the split has maps; b'' for none."""
    if not self.has_stuff:
      return {}
    if self._stuff is None:
      self._stuff = open_maps(stuff_archive(self.path, self._name))
    return {"stuff": read_map(self._stuff, image_id)}

  def _make_fingerprint(self, columns, split) -> str:
    known = self.metadata.get("fingerprints", {}).get(split.name)
    if known is None:  # prepared before there were fingerprints
      known = [shard_mark(epath.Path(file)) for file in split.filepaths]
    digest = hashlib.sha256(
      repr((known, self.class_names, self.category_ids)).encode()
    )
    for column in columns:
      digest.update(np.ascontiguousarray(column, np.int64).tobytes())
    return digest.hexdigest()

  @property
  def exif(self) -> str:
    """Returns 'apply' if orientation tags were applied, else 'ignore'."""
    return self.metadata.get("exif", "ignore")  # not recorded in older datasets

  def _damaged(self, index: int) -> dict[str, Any]:
    """Returns what is known about a record that cannot be read."""
    name = f"damaged record {self._start + index} of {self._name}"
    fields = make_features()["objects"].feature
    return dict(
      image=b"",
      image_id=self.image_ids[index],
      file_name=name.encode(),
      height=self.heights[index],
      width=self.widths[index],
      objects={name: [] for name in fields},
      **({"stuff": b""} if self.has_stuff else {}),
    )

  def __repr__(self) -> str:
    return f"Records({str(self.path)!r}, {self.split!r}, len={len(self)})"

  def __getstate__(self) -> dict[str, Any]:
    return self.__dict__ | {"_source": None, "_stuff": None}


def _read_index(path: epath.Path) -> list[np.ndarray]:
  try:
    with np.load(io.BytesIO(path.read_bytes())) as index:
      return [index[field] for field in INDEX_FIELDS]
  except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
    raise UserError(
      f"{path} cannot be read ({error}); copy it again or prepare the dataset "
      "again"
    ) from error


def _parse_split(split, known, path):
  """Splits 'train[2:8]' into ('train', 2, 8)."""
  match = re.fullmatch(r"(\w+)(?:\[(-?\d+)?:(-?\d+)?\])?", split)
  if not match or match[1] not in known:
    raise UserError(
      f"Unknown split {split!r} of {path}; it has {', '.join(known)}, whole "
      "or a part such as 'train[:8]'."
    )
  start, stop = (int(x) if x else None for x in match.groups()[1:])
  return match[1], start, stop


def find_prepared(data_dir: str, name: str) -> epath.Path | None:
  """Returns the newest complete version of a prepared dataset.

  Args:
    data_dir: Directory of all prepared datasets; gs:// too.
    name: '<builder>' or '<builder>/<config>'.

  Returns:
    Its folder, or None if there is none.
  """
  folder = epath.Path(data_dir, name)
  versions = [  # listed, not globbed: a name may contain brackets
    path
    for path in (folder.iterdir() if folder.is_dir() else ())
    if re.fullmatch(r"\d+\.\d+\.\d+", path.name)
    and (path / "dataset_info.json").exists()
  ]
  key = lambda path: tuple(int(x) for x in path.name.split("."))  # noqa: E731
  return max(versions, key=key, default=None)


def list_splits(path: epath.Path) -> list[str]:
  """Returns the names of the splits of a prepared dataset, sorted."""
  return sorted(open_folder(path).info.splits)


def open_records(data_dir: str, name: str, split: str) -> Records:
  """Returns a split of a prepared dataset.

  Args:
    data_dir: Directory of all prepared datasets; gs:// too.
    name: '<builder>' or '<builder>/<config>' below it.
    split: Such as 'train', or a slice 'train[8:16]' in the order of the source.

  Returns:
    The records of the newest version.

  Raises:
    UserError: If nothing is prepared there, the split is unknown or selects
      nothing, or a file of it is missing or truncated.
  """
  path = find_prepared(data_dir, name)
  if path is None:
    builder, _, config = name.partition("/")
    source = "" if builder == "shapes" else " --source=..."
    config = f" {shlex.quote(f'--name={config}')}" if config else ""
    raise UserError(
      f"No prepared dataset {name!r} in data_dir {str(data_dir)!r}. Make it "
      f"with: python -m solo_jax.prepare --dataset={builder}{source}{config} "
      f"{shlex.quote(f'--data_dir={data_dir}')}"
    )
  return Records(path, split)


def decode_image(encoded: bytes) -> np.ndarray | None:
  """Returns the pixels of an image file.

  Ignores EXIF orientation: annotations refer to the pixels as stored.

  Args:
    encoded: JPEG, PNG or TIFF bytes.

  Returns:
    RGB, grey repeated, alpha dropped. [H, W, 3] uint8 or uint16; None if the
    bytes are not such an image or are truncated.
  """
  if not is_complete(encoded):
    return None
  flags = (
    cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
  )
  try:
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
  except cv2.error:
    return None


def read_sample(record: Mapping[str, Any]) -> Sample:
  """Returns the sample of a record.

  Args:
    record: From `Records`.

  Returns:
    The sample in its original frame. If the image cannot be decoded, a blank
    sample of the recorded size without instances and with `is_corrupt` set.
  """
  height, width = int(record["height"]), int(record["width"])
  image = None
  # Checked before decoding, as the decoder allocates whatever is declared.
  if stored_size(record["image"]) == (height, width):
    image = decode_image(record["image"])
  is_corrupt = image is None or image.shape[:2] != (height, width)
  if is_corrupt:
    image = np.zeros((height, width, 3), np.uint8)
  objects = record["objects"]
  num = 0 if is_corrupt else len(objects["rle"])
  boxes = np.frombuffer(b"".join(objects["bbox"][:num]), np.float64)
  boxes = boxes.reshape(num, 4)
  return Sample(
    image=image,
    masks=RleMasks(objects["rle"][:num], (height, width)),
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
    stuff=_read_map(record, (height, width)) if "stuff" in record else None,
  )


def _read_map(record: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
  """Returns the stuff map; without one, all pixels have no class."""
  encoded, found = record["stuff"], None
  if encoded and stored_size(encoded) == size:
    found = decode_image(encoded)
  return np.full(size, NO_STUFF, np.uint8) if found is None else found[..., 0]


def to_coco(records: Records) -> dict[str, Any]:
  """Returns the annotations of a split in COCO's format.

  Args:
    records: Any split.

  Returns:
    The form of `pycocotools.coco.COCO.dataset`: images, annotations (RLE at
    original size; ids, areas and boxes exactly as in the source), categories
    with their original ids, and isthing where every pixel is labelled. For a
    federated dataset, the images also have neg_category_ids and
    not_exhaustive_category_ids, and the categories their frequency if it is
    known.
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
    lost = records.num_objects[i] + records.num_crowds[i] - len(objects["rle"])
    if lost:
      logging.error(
        "image %d (%s): its %d annotations cannot be read and are left out",
        image_id,
        file_name,
        lost,
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
  for category, is_thing in zip(categories, records.is_thing, strict=False):
    category["isthing"] = int(is_thing)
  if records.federated is not None:
    _add_federated(records, images, categories)
  return dict(images=images, annotations=annotations, categories=categories)


def _add_federated(
  records: Records, images: list[dict], categories: list[dict]
) -> None:
  """Adds the fields of federated datasets to a COCO dataset."""
  for field, pairs in records.federated.items():
    of_image = {image["id"]: [] for image in images}
    for image_id, category_id in pairs.tolist():
      if image_id in of_image:  # the split may be a part
        of_image[image_id].append(category_id)
    for image in images:
      image[field] = of_image[image["id"]]
  frequencies = records.metadata["class_frequencies"]
  for category, frequency in zip(categories, frequencies, strict=False):
    category["frequency"] = frequency
