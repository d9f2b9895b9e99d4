"""Opens the folder of a prepared dataset, if this project wrote it.

The contents of a folder are not trusted. TFDS imports the Python classes that
`features.json` names, so that file must equal the one that this project writes,
and all files must belong together.
"""

import concurrent.futures
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from etils import epath
from google.protobuf import json_format

from solo_jax.errors import UserError

# Bytes at the end of a file that identify it: they contain the position of its
# index of records, and thus their packed length.
_END = 2**16
_CLASS = "pythonClassName"
_NEXT = "copy the dataset again or prepare it again"


def make_features() -> tfds.features.FeaturesDict:
  """Returns the features of a record, the same for every builder.

  TFDS stores float64 features as float32, so areas and boxes are stored as the
  eight bytes of each float64 in a Text feature, which is lossless.
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


def open_folder(path: epath.Path) -> tfds.core.DatasetBuilder:
  """Returns a prepared dataset.

  Args:
    path: Its folder; gs:// too.

  Returns:
    TFDS's builder of it.

  Raises:
    UserError: If a file is missing, or was not written by this project.
  """
  features = _read_json(path / "features.json")
  expected = json_format.MessageToDict(make_features().to_proto())
  if not _name_same_classes(features, expected):
    raise UserError(
      f"{path / 'features.json'} is not what solo_jax writes: it names other "
      f"Python classes, which are not imported; {_NEXT}"
    )
  info = _read_json(path / "dataset_info.json")
  if info.get("fileFormat") != "array_record":
    raise UserError(
      f"{path / 'dataset_info.json'} has the fileFormat "
      f"{info.get('fileFormat')!r}; need 'array_record': {_NEXT}"
    )
  try:
    return tfds.builder_from_directory(path)
  except (
    Exception
  ) as error:  # TFDS raises almost any exception for damaged files
    raise UserError(f"{path} cannot be read ({error}); {_NEXT}") from error


def _read_json(path: epath.Path) -> dict[str, Any]:
  try:
    content = json.loads(path.read_bytes())
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f"{path} cannot be read ({error}); {_NEXT}") from error
  if not isinstance(content, dict):
    raise UserError(f"{path} is not a JSON object; {_NEXT}")
  return content


def _name_same_classes(features: Any, expected: Mapping[str, Any]) -> bool:
  """Returns whether two trees of features name the same Python classes.

  The rest, such as default values, differs between versions of TFDS. It looks
  no deeper than the expected tree, however deep the other one is.
  """
  if not isinstance(features, Mapping):
    return False
  found, wanted = (
    {
      key: value
      for key, value in tree.items()
      if key == _CLASS or isinstance(value, Mapping)
    }
    for tree in (features, expected)
  )
  return found.keys() == wanted.keys() and all(
    found[key] == value
    if key == _CLASS
    else _name_same_classes(found[key], value)
    for key, value in wanted.items()
  )


def shard_mark(path: epath.Path) -> str:
  """Returns a hash of a file's end, which identifies it."""
  with path.open("rb") as file:
    size = file.seek(0, os.SEEK_END)
    digest = hashlib.sha256(str(size).encode())
    file.seek(max(size - _END, 0))
    digest.update(file.read())
  return digest.hexdigest()


def check_shards(split: tfds.core.SplitInfo, marks: Mapping[str, str]) -> None:
  """Checks that all files of a split exist, are complete and belong to it.

  Each file ends with an index of its records, so that no record of a truncated
  file can be read.

  Args:
    split: As TFDS describes it.
    marks: `shard_mark` of each file by name; empty for an older dataset.

  Raises:
    UserError: Listing the files that are incomplete or belong to another
      dataset.
  """

  def check(path, length):
    try:
      reader = array_record_module.ArrayRecordReader(str(path))
      found = reader.num_records()
      reader.close()
    except RuntimeError as error:
      return f"  {path}: {error}"
    if found != length:
      return f"  {path}: {found} of {length} records"
    path = epath.Path(path)
    if marks and marks.get(path.name) != shard_mark(path):
      return f"  {path}: belongs to another dataset, or replaces another file"
    return None

  with concurrent.futures.ThreadPoolExecutor() as executor:
    problems = executor.map(check, split.filepaths, split.shard_lengths)
    problems = [problem for problem in problems if problem is not None]
  if problems:
    raise UserError(
      f"{len(problems)} of {len(split.filepaths)} files of split "
      f"{split.name!r} are missing or damaged; copy them again or prepare the "
      "dataset again:\n" + "\n".join(problems[:10])
    )
