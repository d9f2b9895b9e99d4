"""Stuff maps next to the records of a dataset: a class for each pixel.

COCO-stuff has a PNG for each image of COCO (stuffthingmaps_trainval2017.zip).
Those of a split are copied into one archive in the folder of the dataset,
under the ids of the images.
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
  stuff_archive,
)
from solo_jax.errors import UserError

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
      no map.
  """
  missing = {}
  for split in list_splits(path):
    records = Records(path, split)
    archive = stuff_archive(path, split)
    part = archive.with_suffix(".part")
    missing[split] = 0
    with part.open("wb") as file, zipfile.ZipFile(file, "w") as out:
      for record in (records[i] for i in range(len(records))):
        encoded = _find(tree, record)
        if encoded is None:
          missing[split] += 1
        else:
          out.writestr(f"{record['image_id']}.png", encoded)
    if missing[split] == len(records):
      part.unlink()
      raise UserError(
        f"{tree} has no map for any image of split {split!r}: expected files "
        "such as train2017/000000000009.png"
      )
    part.rename(archive)
  return missing


def _find(tree: FileTree, record: dict) -> bytes | None:
  """Returns the map of an image, None if there is none."""
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
    return encoded
  return None
