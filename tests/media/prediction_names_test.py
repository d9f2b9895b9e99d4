"""Tests of solo_jax/media/prediction.py: stacks, and names of any kind."""

import pathlib

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.media.prediction_test import ALL, read_json, run, write
from tests.media.prediction_video_test import SquarePredictor, write_video


def test_pages_of_a_stack_have_outputs_of_their_own(tmp_path):
  stack = tmp_path / "stack.tif"
  pages = [Image.new("L", (30 + i, 20), 90) for i in range(3)]
  pages[0].save(stack, save_all=True, append_images=pages[1:])
  single = write(tmp_path / "single.png", np.zeros((8, 8), np.uint8))
  out = tmp_path / "out"
  assert run([stack, single], out, ALL) == []
  images = read_json(out / "predictions.json")["images"]
  assert [(x["width"], x.get("page_index")) for x in images] == [
    *((30, 0), (31, 1), (32, 2)),
    (8, None),
  ]
  assert {x["file_name"] for x in images[:3]} == {str(stack)}
  labels = {str(x.relative_to(out)) for x in (out / "labels").rglob("*.png")}
  assert labels == {
    "labels/single.png",
    *(f"labels/stack/{i:06d}.png" for i in range(3)),
  }
  assert set(read_json(out / "scores.json")) == {
    "single",
    *(f"stack/{i:06d}" for i in range(3)),
  }


def test_stack_whose_second_page_is_damaged_is_done_as_far_as_it_goes(tmp_path):
  stack = tmp_path / "stack.tif"
  pages = [Image.new("L", (30, 20), 90), Image.new("F", (30, 20))]
  pages[0].save(stack, save_all=True, append_images=pages[1:])
  (problem,) = run([stack], tmp_path / "out")
  assert "float32" in problem.reason
  images = read_json(tmp_path / "out" / "predictions.json")["images"]
  assert [x["page_index"] for x in images] == [0]


NAMES = (
  "\udcff.png",  # no UTF-8: the byte 255, as old shares have it
  "...png",
  "a\nb.png",
  "\x1b[31m.png",
  "concat:a|b.png",
  "x" * 251 + ".png",
)


@pytest.mark.parametrize("name", NAMES)
def test_any_name_that_a_file_system_allows(tmp_path, name):
  """Everything lands below its own folder, and the JSON is whole."""
  image = cv2.imencode(".png", np.zeros((40, 60, 3), np.uint8))[1].tobytes()
  path = tmp_path / "in" / name
  path.parent.mkdir()
  path.write_bytes(image)
  out = tmp_path / "out"
  assert run([path, path.parent / name], out, ALL) == []
  images = read_json(out / "predictions.json")["images"]
  assert [pathlib.Path(x["file_name"]) for x in images] == [path, path]
  files = [x for x in out.rglob("*") if x.is_file()]
  folders = {x.relative_to(out).parts[0] for x in files}
  assert folders == {
    *("overlays", "masks", "labels", "views", "scores.json"),
    *("predictions.json", "polygons.json"),
  }
  assert sum(x.parent == out / "overlays" for x in files) == 2
  assert sum(x.parent.parent == out / "masks" for x in files) == 4
  assert {x.name for x in tmp_path.iterdir()} == {"in", "out"}


@pytest.mark.parametrize("name", ["\udcff.mp4", "file:x.mp4", "pipe:0.mp4"])
def test_videos_of_any_name(tmp_path, monkeypatch, name):
  """FFmpeg would take some of these for addresses."""
  video_file = write_video(tmp_path / "clip.mp4", num_frames=2)
  monkeypatch.chdir(tmp_path)
  video_file.rename(name)
  path = pathlib.Path(name)
  assert run([], tmp_path / "out", ALL, SquarePredictor(), videos=[path]) == []
  frames = read_json(tmp_path / "out" / "predictions.json")["images"]
  assert [x["file_name"] for x in frames] == [name] * 2
  (overlay,) = (tmp_path / "out" / "overlays").iterdir()
  assert overlay.name == name
