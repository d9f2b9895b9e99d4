"""Tests of solo_jax/media/inputs.py."""

import io

import pytest

from solo_jax.errors import UserError
from solo_jax.media.inputs import describe_others, find_inputs


def test_inputs_are_files_of_folders_videos_cameras_and_a_list(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  for name in ("b.PNG", "a.tif", "c.txt", "d.MP4", "sub/d.png", "5"):
    path = tmp_path / "in" / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.touch()
  (tmp_path / "5").touch()  # an image, called so
  inputs = find_inputs(
    ["image.raw", "in", "0", "12", "5", "-", "clip.mkv"],
    io.StringIO("x/one.jpg\n\n two.avi \n"),
  )
  assert [str(p) for p in inputs.images] == [
    "image.raw",
    "in/a.tif",
    "in/b.PNG",
    "5",
    "x/one.jpg",
  ]
  assert [str(p) for p in inputs.videos] == ["in/d.MP4", "two.avi", "clip.mkv"]
  assert inputs.cameras == [0, 12]
  assert len(inputs) == 10


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], r"nothing to predict in \(no arguments\): name images"),
    (["-"], "nothing to predict in -: name images"),
    (["image.png", "folder"], "no images or videos in folder .sub-folders"),
  ],
)
def test_no_files_is_an_error(tmp_path, monkeypatch, arguments, message):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "folder" / "sub").mkdir(parents=True)
  with pytest.raises(UserError, match=message):
    find_inputs(arguments, io.StringIO("\n"))


def test_skipped_files_of_folders_are_counted(tmp_path):
  names = ("a.heic", "b.HEIC", "c.txt", "d", "e.gif", "f.jp2", "g.avif")
  left_behind = ("._e.gif", ".DS_Store", "Thumbs.db")
  for name in names + left_behind:
    (tmp_path / name).touch()
  inputs = find_inputs([str(tmp_path)], io.StringIO())
  assert [x.name for x in inputs.images] == ["e.gif", "f.jp2", "g.avif"]
  assert inputs.skipped == {".heic": 2, ".txt": 1, "(no suffix)": 1}
  text = describe_others(inputs.skipped)
  assert text.startswith("2 .heic, 1 (no suffix), 1 .txt (HEIC photographs are")


def test_folder_of_other_kinds_names_them(tmp_path):
  for name in ("a.heic", "b.heic", "notes.txt"):
    (tmp_path / name).touch()
  with pytest.raises(UserError, match="; found 2 .heic, 1 .txt .HEIC photo"):
    find_inputs([str(tmp_path)], io.StringIO())


def test_a_list_may_end_its_names_with_zeros():
  listed = io.StringIO("a b.png\0c\nd.png\0")
  inputs = find_inputs(["-"], listed)
  assert [str(x) for x in inputs.images] == ["a b.png", "c\nd.png"]


@pytest.mark.parametrize(
  "number", ["99999999999999999999", "4294967296", "\u00b2"]
)
def test_what_is_no_number_of_a_camera_is_a_file(number):
  inputs = find_inputs([number], io.StringIO())
  assert [str(x) for x in inputs.images] == [number] and not inputs.cameras
