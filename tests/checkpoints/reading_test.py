"""Tests of solo_jax/checkpoints/reading.py; store_test.py damages others."""

import json
import random
import resource
import shutil

import jax
import numpy as np
import pytest
import tensorstore

from solo_jax.checkpoints.converted import save_converted
from solo_jax.checkpoints.folders import find_checkpoint
from solo_jax.checkpoints.reading import check_opens, read
from solo_jax.errors import UserError


@pytest.fixture(scope="module")
def saved(toy, tmp_path_factory):
  """Folder of one checkpoint."""
  folder = tmp_path_factory.mktemp("reading") / "run"
  save_converted(
    str(folder),
    variables=toy.init_toy_variables(),
    config=toy.make_toy_config(),
    class_names=("disc", "star"),
    category_ids=(3, 90),
    origin={"family": "mmdet"},
  )
  return find_checkpoint(str(folder))


@pytest.fixture
def copied(saved, tmp_path):
  """A copy under a name that is not a step, in a folder with brackets."""
  folder = tmp_path / "best [v2]" / "my model"
  shutil.copytree(saved, folder)
  return find_checkpoint(str(folder))


def change_info(folder, **changes):
  """Writes other values; None removes one."""
  path = folder / "info" / "metadata"
  info = json.loads(path.read_text()) | changes
  info = {key: value for key, value in info.items() if value is not None}
  path.write_text(json.dumps(info))


def declare(folder, **values):
  """Changes the header of one array."""
  store = tensorstore.KvStore.open(
    {"driver": "ocdbt", "base": f"file://{folder}/state/"}
  ).result()
  key = b"params.head.bias/.zarray"
  header = json.loads(store.read(key).result().value) | values
  store.write(key, json.dumps(header).encode()).result()


def test_copied_folder_is_read_under_any_name(saved, copied):
  expected, found = read(saved), read(copied)
  assert found["info"] == expected["info"]
  jax.tree.map(np.testing.assert_array_equal, found["state"], expected["state"])


@pytest.mark.parametrize(
  "header",
  [
    {"shape": [10**11]},
    {"shape": [10**11], "chunks": [10**11]},
    {"chunks": [10**11]},
    {"shape": [1_500_000_000], "chunks": [5], "fill_value": 0},
    {"shape": [1] * 31 + [10**11], "chunks": [1] * 32},
  ],
)
def test_declared_numbers_take_no_memory(copied, header):
  declare(copied, **header)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  with pytest.raises(UserError, match="cannot be read"):
    read(copied)
  with pytest.raises(Exception, match=r"."):
    check_opens(copied)
  rise = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
  assert rise < 64 * 1024  # KiB


def test_checkpoint_without_a_checksum_is_not_taken_for_an_old_one(copied):
  change_info(copied, checksum=None)
  with pytest.raises(UserError, match="has no checksum.*solo_jax.convert"):
    read(copied)
  assert read(copied, is_unsigned_read=True)["info"]["category_ids"] == [3, 90]
  with pytest.raises(ValueError, match="no checksum"):
    check_opens(copied)


@pytest.mark.parametrize(
  "changes",
  [
    {"checksum": None, "checksul": 5},  # one wrong bit in the name
    {"checksum": "5"},
    {"class_names": ["disc", "ring"]},
    {"config": {"__class__": "os.system"}},
    {"category_ids": None, "checksum": None},
  ],
)
def test_what_a_checkpoint_states_about_itself_is_checked(copied, changes):
  change_info(copied, **changes)
  with pytest.raises(UserError, match="cannot be read"):
    read(copied, is_unsigned_read=True)


def test_spoiled_checkpoints_are_never_read_as_others(saved, tmp_path):
  """Every file of it cut, emptied, removed or with one wrong bit."""
  expected = read(saved)
  rng = random.Random(0)
  names = [x.relative_to(saved) for x in _files(saved)]
  for i, name in enumerate(names * 4):
    folder = tmp_path / str(i)
    shutil.copytree(saved, folder)
    path = folder / name
    content = bytearray(path.read_bytes())
    how = i // len(names)
    if how == 0 and content:
      content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content[: len(content) // 2] if how == 1 else content)
    if how == 2:
      path.write_bytes(b"")
    if how == 3:
      path.unlink()
    try:
      found = read(find_checkpoint(str(folder)))
    except UserError:
      continue
    assert found["info"] == expected["info"]
    jax.tree.map(
      np.testing.assert_array_equal, found["state"], expected["state"]
    )


def _files(folder):
  for path in sorted(folder.iterdir()):
    yield from _files(path) if path.is_dir() else [path]
