"""Tests of solo_jax/data/file_names.py."""

import unicodedata
import zipfile

import pytest

from solo_jax.data.file_names import NameFinder
from solo_jax.data.file_tree import FileTree
from solo_jax.errors import UserError

NAMES = ("a.png", "x/1.png", "y/1.png", "y/deep/2.png", "tray 1 ü.png")
NAMES += ("Case.PNG", "100%.png", "sub/a.png")


@pytest.fixture
def folder(tmp_path):
  for name in NAMES:
    (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "images" / name).touch()
  return tmp_path / "images"


@pytest.mark.parametrize("name", NAMES)
def test_names_as_they_are(folder, name):
  assert NameFinder(FileTree(folder)).find(name) == (name, None)


@pytest.mark.parametrize(
  ("written", "name", "difference"),
  [
    ("y\\deep\\2.png", "y/deep/2.png", "backslashes"),
    ("images/a.png", "a.png", "a different folder"),
    (".\\images\\a.png", "a.png", "backslashes and a different folder"),
    (
      "C:\\data\\images\\x\\1.png",
      "x/1.png",
      "backslashes and a different fold",
    ),
    ("/home/somebody/images/x/1.png", "x/1.png", "a different folder"),
    ("../../upload/4/2.png", "y/deep/2.png", None),
    ("2.png", "y/deep/2.png", "no folder"),
    ("deep/2.png", "y/deep/2.png", "no folder"),
    ("tray%201%20%C3%BC.png", "tray 1 ü.png", "percent-encoded letters"),
    ("/data/local-files/?d=set/a.png", "a.png", "a server address"),
    ("https://host.example/set/case.png", "Case.PNG", "a server address"),
    ("case.png", "Case.PNG", "different letter case"),
    (
      unicodedata.normalize("NFD", "tray 1 ü.png"),
      "tray 1 ü.png",
      "another Uni",
    ),
    ("100%25.png", "100%.png", None),
  ],
)
def test_the_only_file_that_fits(folder, written, name, difference):
  if written == "../../upload/4/2.png":
    (folder / "y/deep/2.png").rename(folder / "2.png")
    name = "2.png"
  match = NameFinder(FileTree(folder)).find(written)
  assert match.name == name
  assert match.difference.startswith(difference or "")


def test_whole_paths_below_the_folder(folder):
  (folder.parent / "link").symlink_to(folder)
  for root in (folder, folder.parent / "link"):
    match = NameFinder(FileTree(root)).find(str(folder / "x" / "1.png"))
    assert match == ("x/1.png", "an absolute path")


@pytest.mark.parametrize(
  ("written", "message"),
  [
    ("1.png", "file '1.png' matches 2 files in .*: 'x/1.png', 'y/1.png'"),
    ("z/1.png", "is missing in .*; there is 'x/1.png'"),
    ("a.jpg", "file 'a.jpg' is missing in .*; there is 'a.png'"),
    ("nowhere.png", "file 'nowhere.png' is missing in "),
    ("/etc/passwd", "file '/etc/passwd' is not below "),
    ("../../etc/passwd", "is not below "),
    ("..", "is not below "),
    ("", "file '' is missing"),
    ("a.png\0", "is missing"),
    ("http://[x/y.png", "is missing"),
    ("s3://bucket", "is missing"),
    ("..\\..", "is not below "),
    ("\ud800", "is missing"),
  ],
)
def test_names_without_a_file_of_their_own(folder, written, message):
  with pytest.raises(UserError, match=message):
    NameFinder(FileTree(folder)).find(written)


def test_two_files_that_differ_in_case_are_not_guessed_between(folder):
  (folder / "case.png").touch()
  finder = NameFinder(FileTree(folder))
  assert finder.find("case.png") == ("case.png", None)
  with pytest.raises(UserError, match="matches 2 files"):
    finder.find("CASE.png")


def test_names_without_a_stem_do_not_hide_other_files(tmp_path):
  with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
    for name in ("a.png", ".", "b/..png", "%2F"):
      archive.writestr(name, "x")
  finder = NameFinder(FileTree(tmp_path / "x.zip"))
  assert finder.find("x/a.png").name == "a.png"
