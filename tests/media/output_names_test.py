"""Tests of solo_jax/media/output_names.py."""

import os
import pathlib
import time

import pytest

from solo_jax.media.output_names import output_names


def names(*paths):
  return output_names([pathlib.Path(path) for path in paths])


@pytest.mark.parametrize(
  ("paths", "expected"),
  [
    (["x/a.png", "x/b.tif"], ["a", "b"]),
    # As the inputs' folders are.
    (["x/a.png", "y/a.png", "y/z/b.png"], ["x/a", "y/a", "y/z/b"]),
    (["/data/x/a.png", "/data/b.png"], ["x/a", "b"]),
    # One stem: the suffix tells them apart.
    (["a.png", "a.jpg", "a_2.png"], ["a.png", "a.jpg", "a_2"]),
    (["img_1.png", "img_1_2.png"], ["img_1", "img_1_2"]),
    (["A.png", "a.jpg"], ["A.png", "a.jpg"]),
    (["\u00e9.png", "e\u0301.jpg"], ["\u00e9.png", "e\u0301.jpg"]),
    # One file twice.
    (["a.png", "a.png", "a.png"], ["a.png", "a.png_2", "a.png_3"]),
    (["x/a.png", "./x/../x/a.png"], ["a.png", "a.png_2"]),
    # No name is the folder of another.
    (["clip.mp4", "clip/000000.png"], ["clip.mp4", "clip/000000"]),
    (["a.png.png", "a.png", "a.jpg"], ["a.png.png", "a.png", "a.jpg"]),
    # Nothing points outside of the folder.
    (["...png"], ["_...png"]),
    (["..png", "x/...png"], ["_..png", "x/_...png"]),
    ([".png"], [".png"]),
    (["../a.png", "../../b.png"], None),
  ],
)
def test_outputs_are_named_as_their_inputs(paths, expected):
  found = names(*paths)
  assert expected is None or found == expected
  assert len(set(found)) == len(paths)
  for name in found:
    assert not {"", ".", ".."} & set(name.split("/")), name


def test_long_names_leave_room_for_a_number_and_a_suffix():
  for part in ("x" * 251, "\u00fc" * 120, "\U0001f600" * 60, "\udcff" * 240):
    first, second = names(f"a/{part}.png", f"b/{part[:-1]}y.png")
    assert first.startswith("a/") and second.startswith("b/")
    assert first[2:] != second[2:]
    for name in (first, second):
      assert len(os.fsencode(name[2:])) <= 200


def test_many_inputs_of_one_name_are_named_at_once():
  paths = [f"cells/{i}/image.png" for i in range(10_000)]
  start = time.process_time()
  assert names(*paths)[-1] == "9999/image"
  assert len(set(names(*["image.png"] * 10_000))) == 10_000
  assert time.process_time() - start < 10


def test_no_inputs_have_no_output_names():
  assert output_names([]) == []
