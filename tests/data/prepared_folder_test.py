"""Tests of solo_jax/data/prepared_folder.py."""

import json
import shutil
import sys

import pytest

from solo_jax.data.prepared_folder import open_folder, shard_mark
from solo_jax.data.records import open_records
from solo_jax.data.shapes import Shapes
from solo_jax.errors import UserError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  path = str(tmp_path_factory.mktemp("data"))
  return Shapes(data_dir=path, num_train=3, num_validation=2).prepare()


@pytest.fixture
def copied(prepared, tmp_path):
  return shutil.copytree(prepared, tmp_path / "data" / "shapes" / "1.0.0")


def test_what_is_written_opens(copied):
  assert sorted(open_folder(copied).info.splits) == ["train", "validation"]


@pytest.mark.parametrize(
  "name",
  ["outside.module.Text", "os.path.Text", "tensorflow_datasets.core.x.Y"],
)
def test_no_class_is_imported_by_a_name_in_the_folder(
  copied, name, tmp_path, monkeypatch
):
  (tmp_path / "outside").mkdir()
  (tmp_path / "outside" / "module.py").write_text(
    "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  path = copied / "features.json"
  text = path.read_text()
  old = "tensorflow_datasets.core.features.text_feature.Text"
  assert old in text
  path.write_text(text.replace(old, name, 1))
  with pytest.raises(
    UserError, match="features.json is not what solo_jax writes"
  ):
    open_records(tmp_path / "data", "shapes", "train")
  assert not (tmp_path / "outside" / "ran").exists()
  assert "outside.module" not in sys.modules


@pytest.mark.parametrize(
  ("file", "change", "message"),
  [
    ("features.json", lambda x: x.pop("featuresDict"), "is not what"),
    (
      "dataset_info.json",
      lambda x: x.update(fileFormat="torch"),
      "'torch'; need",
    ),
    ("dataset_info.json", lambda x: x.update(version="x"), "cannot be read"),
  ],
)
def test_other_folders_are_refused(copied, file, change, message):
  content = json.loads((copied / file).read_text())
  change(content)
  (copied / file).write_text(json.dumps(content))
  with pytest.raises(UserError, match=message):
    open_folder(copied)


def test_deeply_nested_features_are_refused_at_once(copied):
  path = copied / "features.json"
  content = json.loads(path.read_text())
  nested = {}
  for _ in range(300):
    nested = {"features": nested}
  content["featuresDict"]["features"]["image"]["image"] = nested
  path.write_text(json.dumps(content))
  with pytest.raises(UserError, match="names other Python classes"):
    open_folder(copied)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 10**5])
@pytest.mark.parametrize("file", ["features.json", "dataset_info.json"])
def test_damaged_files_are_named(copied, file, text):
  (copied / file).write_text(text)
  with pytest.raises(UserError, match=file):
    open_folder(copied)


def test_shard_marks_of_files_of_equal_size_differ(tmp_path):
  first, second = tmp_path / "a", tmp_path / "b"
  first.write_bytes(bytes(10**6) + b"1")
  second.write_bytes(bytes(10**6) + b"2")
  assert shard_mark(first) != shard_mark(second)
  second.write_bytes(first.read_bytes())
  assert shard_mark(first) == shard_mark(second)
