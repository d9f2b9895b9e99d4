"""Stuff maps next to the records of a dataset: a class for each pixel.

COCO-stuff has a PNG for each image of COCO (stuffthingmaps_trainval2017.zip).
Those of a split are copied into one archive in the folder of the dataset,
under the ids of the images. The number of classes is the archive's comment.
"""

import pathlib
import zipfile

import numpy as np

from solo_jax.data.file_tree import FileTree
from solo_jax.data.image_files import stored_size
from solo_jax.data.records import (
  Records,
  decode_image,
  list_splits,
)
from solo_jax.data.stuff_archive import open_maps, stuff_archive
from solo_jax.errors import UserError
from solo_jax.types import NO_STUFF

_FOLDERS = ("", "train2017/", "val2017/")


def add_stuff_maps(path: pathlib.Path, tree: FileTree) -> dict[str, int]:
  """Copies the stuff maps of a prepared dataset's images.

  Args:
    path: Folder of the dataset.
    tree: Folder or archive with <name of the image>.png, there or in train2017
      and val2017: the class of each pixel, 255 for none.

  Returns:
    Images without a map, by split; the semantic branch ignores them.

  Raises:
    UserError: If a map is not a grey PNG of its image's size, or a split has
      no map. Nothing is added then.
  """
  parts, missing = {}, {}
  try:
    for split in list_splits(path):
      archive = stuff_archive(path, split)
      part = archive.with_suffix(".part")
      parts[part] = archive
      missing[split] = _write(part, Records(path, split), tree)
    for part, archive in parts.items():
      part.replace(archive)
  finally:
    for part in parts:
      part.unlink(missing_ok=True)
  return missing


def find_stuff_problem(records: Records, num_classes: int) -> str:
  """Returns why a semantic branch cannot be trained on a split.

  Args:
    records: Split to train on.
    num_classes: Classes of the branch; 0: there is none.

  Returns:
    A line with what to do; '' if nothing is wrong.
  """
  if not num_classes:
    return ""
  field = "network.semantic_classes"
  where = f"split {records.whole_split!r} of {records.path}"
  without = (
    f"train without them: --config.{field}=0 (htc_coco.py:semantic=false)"
  )
  if not records.has_stuff:
    return (
      f"{field} is {num_classes}, but {where} has no stuff maps to train this "
      f"branch on; add them (prepare --stuff_maps=...), or {without}"
    )
  found = count_classes(records)
  if found is not None and found > num_classes:
    return (
      f"{field} is {num_classes}, but the stuff maps of {where} have classes "
      f"up to {found - 1}; set --config.{field}={found}, or {without}"
    )
  return ""


def count_classes(records: Records) -> int | None:
  """Returns the largest class of a split's stuff maps plus 1.

  Args:
    records: Part of a split that has maps.

  Returns:
    The number; None if the maps were added before it was counted.
  """
  with open_maps(stuff_archive(records.path, records.whole_split)) as maps:
    return int(maps.comment) if maps.comment else None


def _write(part: pathlib.Path, records: Records, tree: FileTree) -> int:
  """Writes the maps of a split; returns the number of images without one."""
  missing, num_classes = 0, 0
  with part.open("wb") as file, zipfile.ZipFile(file, "w") as out:
    for record in (records[i] for i in range(len(records))):
      found = _find(tree, record)
      if found is None:
        missing += 1
        continue
      encoded, values = found
      out.writestr(f"{record['image_id']}.png", encoded)
      classes = values.astype(np.int32)[values != NO_STUFF]
      num_classes = max(num_classes, int(classes.max(initial=-1)) + 1)
    out.comment = str(num_classes).encode()
  if missing == len(records):
    raise UserError(
      f"{tree} has no map for any image of split {records.split!r}: expected "
      "files such as train2017/000000000009.png"
    )
  return missing


def _find(tree: FileTree, record: dict) -> tuple[bytes, np.ndarray] | None:
  """Returns the map of an image, encoded and decoded; None without one."""
  stem = pathlib.PurePosixPath(record["file_name"].decode()).stem
  for name in (f"{folder}{stem}.png" for folder in _FOLDERS):
    if name not in tree:
      continue
    encoded = tree.read(name)
    size = int(record["height"]), int(record["width"])
    values = decode_image(encoded) if stored_size(encoded) == size else None
    if values is None or values.dtype != np.uint8 or np.ptp(values, -1).any():
      raise UserError(
        f"{name} in {tree} is not an 8-bit grey PNG of the size of its image, "
        f"{size[1]}x{size[0]}"
      )
    return encoded, values
  return None
