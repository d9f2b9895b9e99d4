"""Tests of solo_jax/data/stuff_archive.py."""

import zipfile

import pytest
from etils import epath

from solo_jax.data.stuff_archive import open_maps, read_map, stuff_archive
from solo_jax.errors import UserError


@pytest.fixture
def archive(tmp_path):
  path = stuff_archive(epath.Path(tmp_path), "train")
  with zipfile.ZipFile(path, "w") as out:
    out.writestr("7.png", b"content of a map")
  return path


def test_maps_are_read_by_image_id(archive):
  maps = open_maps(archive)
  assert read_map(maps, 7) == b"content of a map"
  assert read_map(maps, 8) == b""


def test_damaged_maps_are_named(archive):
  whole = archive.read_bytes()
  archive.write_bytes(whole.replace(b"content", b"CONTENT"))
  with pytest.raises(UserError, match="image 7 in .*train_stuff.zip is damage"):
    read_map(open_maps(archive), 7)
  archive.write_bytes(whole[:-30])
  with pytest.raises(UserError, match="train_stuff.zip cannot be .*stuff_maps"):
    open_maps(archive)
