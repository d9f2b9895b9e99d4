"""Tests of solo_jax/media/inputs.py."""

import io
import pathlib

import pytest

from solo_jax.errors import UserError
from solo_jax.media.inputs import find_inputs, unique_names


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


def test_equal_names_do_not_overwrite_each_other():
  paths = [pathlib.Path(x) for x in ("x/a.png", "y/a.jpg", "a_2.png", "b.png")]
  names = unique_names(paths)
  assert names == ["a", "a_2", "a_2_2", "b"]
