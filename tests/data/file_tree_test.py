"""Tests of solo_jax/data/file_tree.py."""

import stat
import struct
import tracemalloc
import zipfile
import zlib

import cv2
import numpy as np
import pytest

from solo_jax.data import file_tree
from solo_jax.data.file_tree import (
  FileTree,
  is_outside,
  split_suffix,
)
from solo_jax.errors import UserError


def encode(suffix, image):
  return cv2.imencode(suffix, image)[1].tobytes()


@pytest.fixture
def folder(tmp_path):
  path = tmp_path / "top"
  (path / "deep").mkdir(parents=True)
  (path / "a.png").write_bytes(encode(".png", np.zeros((3, 5), np.uint16)))
  (path / "deep" / "b.txt").write_text("b")
  return path


@pytest.mark.parametrize("top", ["top/", ""])
def test_archive_reads_like_the_folder(folder, tmp_path, top):
  with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
    archive.mkdir("top")
    for name in ("a.png", "deep/b.txt"):
      archive.write(folder / name, top + name)
  for tree in (FileTree(folder), FileTree(tmp_path / "x.zip")):
    assert tree.list_names() == ["a.png", "deep/b.txt"]
    assert tree.read("deep/b.txt") == b"b"
    assert "a.png" in tree and "top/a.png" not in tree and "deep" not in tree
    assert tree.read_header("a.png") == ((3, 5), 1, 1, 1)
    with pytest.raises(
      UserError, match="deep/b.txt is not an image, or damaged"
    ):
      tree.read_header("deep/b.txt")


def test_bad_paths(folder):
  with pytest.raises(UserError, match="nowhere: no such folder or zip"):
    FileTree(folder / "nowhere")
  with pytest.raises(UserError, match="expected a folder or a zip archive"):
    FileTree(folder / "a.png")


def test_damaged_member_of_an_archive(tmp_path):
  path = tmp_path / "x.zip"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("a.txt", "content")
  path.write_bytes(path.read_bytes().replace(b"content", b"contort"))
  with pytest.raises(UserError, match="damaged in .*x.zip: Bad CRC"):
    FileTree(path).read("a.txt")


def bomb(suffix):
  """A small file whose header declares 60,000 x 60,000 pixels, 10 GB."""
  data = bytearray(encode(suffix, np.zeros((8, 8, 3), np.uint8)))
  if suffix == ".png":
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
  elif suffix == ".jpg":
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
  elif suffix == ".bmp":
    data[18:26] = struct.pack("<II", 60_000, 60_000)
  else:  # TIFF: entries of 12 bytes, tag, type, count, value
    start = struct.unpack("<I", data[4:8])[0] + 2
    for entry in range(start, len(data) - 11, 12):
      if struct.unpack("<H", data[entry : entry + 2])[0] in (256, 257):
        data[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, 60_000)
  return bytes(data)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff"])
def test_image_bombs_are_refused_by_their_header(tmp_path, suffix):
  (tmp_path / f"b{suffix}").write_bytes(bomb(suffix))
  tracemalloc.start()
  with pytest.raises(UserError) as caught:
    FileTree(tmp_path).read_header(f"b{suffix}")
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert str(caught.value) == (
    f"file b{suffix} is too large: its header declares 60000 x 60000 pixels "
    "(height x width), more than --max_pixels=268435456"
  )
  assert peak < 10e6
  tree = FileTree(tmp_path, max_pixels=60_000**2)
  assert tree.read_header(f"b{suffix}").size == (60_000, 60_000)


def pack(path, name, content="x"):
  """Writes an archive of a.txt and a member of any name, as attackers do."""
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("a.txt", "a")
    member = zipfile.ZipInfo()
    member.filename = name
    archive.writestr(member, content)
  return path


@pytest.mark.parametrize(
  "name", ["../x", "a/../../x", "/x", "..\\x", "C:\\x", "c:/x", ".."]
)
def test_names_that_lead_out(tmp_path, name):
  assert is_outside(name)
  (tmp_path / "x").touch()
  (tmp_path / "in").mkdir()
  assert name not in FileTree(tmp_path / "in")
  with pytest.raises(UserError, match="x.zip: the member '.*' points outside"):
    FileTree(pack(tmp_path / "x.zip", name))


@pytest.mark.parametrize(
  "name", ["x", "a/b", "a..b/..c", "...", "12:30.png", "核/ä.png", "./x", ""]
)
def test_names_that_stay_inside(tmp_path, name):
  assert not is_outside(name)
  tree = FileTree(pack(tmp_path / "x.zip", name))
  # A member without a name is not a file.
  assert set(tree.list_names()) == {"a.txt", name} - {""}


def test_link_in_an_archive_is_refused(tmp_path):
  path = tmp_path / "x.zip"
  link = zipfile.ZipInfo("a.png")
  link.create_system = 3  # Unix, whose modes the attribute holds
  link.external_attr = (stat.S_IFLNK | 0o777) << 16
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr(link, "/etc/passwd")
  with pytest.raises(UserError, match="'a.png' points outside .* no links"):
    FileTree(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_damage_of_every_packing_is_named(tmp_path, method):
  path = tmp_path / "x.zip"
  with zipfile.ZipFile(path, "w", method) as archive:
    archive.writestr("a.txt", "content " * 50)
  data = bytearray(path.read_bytes())
  data[45:60] = bytes(15)
  path.write_bytes(data)
  with pytest.raises(UserError, match="damaged in .*x.zip"):
    FileTree(path).read("a.txt")
  with pytest.raises(UserError, match="a.txt is not an image, or damaged"):
    FileTree(path).read_header("a.txt")


def test_encrypted_member_is_refused(tmp_path):
  path = pack(tmp_path / "x.zip", "b.txt")
  data = bytearray(path.read_bytes())
  data[6] |= 1  # the flag, in the local header and in the directory
  data[data.index(b"PK\x01\x02") + 8] |= 1
  path.write_bytes(data)
  with pytest.raises(UserError, match="damaged in .*encrypted"):
    FileTree(path).read("a.txt")


@pytest.mark.parametrize("is_archive", [False, True])
def test_huge_file_is_not_read(tmp_path, monkeypatch, is_archive):
  monkeypatch.setattr(file_tree, "_MAX_BYTES", 2**30)
  with open(tmp_path / "b.json", "wb") as file:
    file.truncate(3 << 29)  # sparse: takes no room
  tree = FileTree(tmp_path)
  if is_archive:
    path = pack(tmp_path / "x.zip", "b.json")
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02") + 24  # the size that the directory declares
    data[at : at + 4] = struct.pack("<I", 3 << 29)
    path.write_bytes(data)
    tree = FileTree(path)
  with pytest.raises(UserError, match="b.json in .* has 1.5 GiB; .* has 1 GiB"):
    tree.read("b.json")


def test_what_systems_leave_behind_is_no_file(folder, tmp_path):
  """macOS packs __MACOSX next to the folder, so that it is not the only top."""
  path = tmp_path / "x.zip"
  with zipfile.ZipFile(path, "w") as archive:
    archive.write(folder / "a.png", "top/a.png")
    for name in ("__MACOSX/top/._a.png", "top/.DS_Store", "top/._a.png"):
      archive.writestr(name, "Mac OS X")
  for name in ("._a.png", ".DS_Store", "Thumbs.db", "__MACOSX/b.png"):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).touch()
  assert FileTree(path).list_names() == ["a.png"] and "a.png" in FileTree(path)
  assert FileTree(folder).list_names() == ["a.png", "deep/b.txt"]


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    (b"<!DOCTYPE html>", "a page of HTML"),
    (b"", "empty"),
  ],
)
def test_archives_that_are_something_else_are_named(tmp_path, content, reason):
  (tmp_path / "images.zip").write_bytes(content)
  with pytest.raises(UserError, match=f"zip is {reason}.*; need a folder"):
    FileTree(tmp_path / "images.zip")
  (tmp_path / "a.png").write_bytes(content)
  with pytest.raises(UserError, match=f"file a.png is {reason}"):
    FileTree(tmp_path).read_header("a.png")


def test_member_whose_name_is_spoiled_is_damaged(tmp_path):
  path = pack(tmp_path / "x.zip", "é.png")
  data = bytearray(path.read_bytes())
  at = data.index("é.png".encode())  # in front of the member, not the directory
  data[at : at + 2] = b"\xb7\xff"
  path.write_bytes(data)
  with pytest.raises(UserError, match="is not an image, or damaged"):
    FileTree(path).read_header("é.png")
  with pytest.raises(UserError, match="damaged in .*x.zip"):
    FileTree(path).read("é.png")


@pytest.mark.parametrize(
  ("name", "expected"),
  [
    ("a/b.tar.PNG", ("a/b.tar", ".png")),
    ("a.b/c", ("a.b/c", "")),
    ("a/.hidden", ("a/.hidden", "")),
  ],
)
def test_suffixes_are_those_of_the_last_part(name, expected):
  assert split_suffix(name) == expected
