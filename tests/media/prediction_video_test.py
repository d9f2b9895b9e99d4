"""Tests of solo_jax/media/prediction.py: videos and cameras."""

from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from solo_jax import types, visualization
from solo_jax.media import video
from tests.media.prediction_test import (
  ALL,
  BandPredictor,
  read_json,
  run,
  write,
)


class SquarePredictor(BandPredictor):
  """A red and a green square wherever they are; the green one less sure."""

  def detect(self, image):
    found = [image[..., channel] > 128 for channel in (0, 1)]
    boxes = [
      (x.min(), y.min(), x.max() + 1, y.max() + 1)
      for y, x in map(np.nonzero, found)
    ]
    return types.Instances(
      masks=np.stack(found),
      scores=np.array([0.9, 0.5], np.float32),
      labels=np.array([0, 1], np.int32),
      boxes_xyxy=np.array(boxes, np.float32),
    )

  def stream(self, images):
    for index, image in enumerate(images):
      yield index, self.detect(image)


def squares(index, size=(64, 96)):
  """A frame: red goes right, green goes left."""
  image = np.zeros((*size, 3), np.uint8)
  image[10:30, 4 + 3 * index : 24 + 3 * index, 0] = 255
  image[36:56, 70 - 3 * index : 90 - 3 * index, 1] = 255
  return image


def write_video(path, num_frames=12, noise=0):
  rng = np.random.default_rng(0)
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(path, "w") as container:
    stream = container.add_stream("libx264", rate=10, options={"crf": "10"})
    stream.height, stream.width = 64, 96
    stream.pix_fmt = "yuv420p"
    for index in range(num_frames):
      image = squares(index % 12)
      image += rng.integers(0, noise + 1, image.shape).astype(np.uint8) * (
        image == 0
      )
      frame = av.VideoFrame.from_ndarray(image, "rgb24")
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return path


def test_a_video_has_tracks_and_an_overlay(tmp_path):
  path = write_video(tmp_path / "in" / "clip.mkv")
  out = tmp_path / "out"
  image = write(tmp_path / "in" / "a.png", squares(0)[..., ::-1])
  predictor = SquarePredictor()
  problems = run([image], out, ALL, predictor, videos=[path])
  assert problems == []

  dataset = read_json(out / "predictions.json")
  assert dataset["videos"] == [
    dict(id=1, file_name=str(path), height=64, width=96, fps=10.0)
  ]
  image, *frames = dataset["images"]
  assert image["id"] == 1 and "video_id" not in image
  assert [x["frame_index"] for x in frames] == list(range(12))
  assert [x["seconds"] for x in frames] == pytest.approx(np.arange(12) / 10)
  assert {x["video_id"] for x in frames} == {1}
  assert len(dataset["annotations"]) == 26
  assert [x.get("track_id") for x in dataset["annotations"][:2]] == [None] * 2
  for annotation in dataset["annotations"][2:]:
    assert annotation["track_id"] == {3: 1, 44: 2}[annotation["category_id"]]

  overlay = video.VideoFile(out / "overlays" / "clip.mp4")
  drawn = list(overlay.frames())
  assert len(drawn) == 12
  assert overlay.size == (64 * 5, 96 * 5)  # enlarged like a small image
  # The sign on the red square has the colour of its track, and moves on.
  color = visualization.PALETTE.by_idx(1).as_rgb()
  lefts = []
  for index in (2, 6):
    distance = np.abs(drawn[index].image.astype(int) - color).sum(2)
    rows, columns = np.nonzero(distance < 60)
    assert len(rows) > 300
    lefts.append(columns.min())
  assert abs(lefts[1] - lefts[0] - 4 * 3 * 5) < 5

  names = sorted(x.name for x in (out / "labels" / "clip").iterdir())
  assert names == [f"{i:06d}.png" for i in range(12)]
  label_image = cv2.imread(
    str(out / "labels" / "clip" / "000004.png"), cv2.IMREAD_UNCHANGED
  )
  assert label_image[20, 26] == 1 and label_image[46, 68] == 2
  scores = read_json(out / "scores.json")
  assert scores["clip/000004"] == {"1": pytest.approx(0.9), "2": 0.5}
  mask = cv2.imread(
    str(out / "masks" / "clip" / "000004" / "0002.png"), cv2.IMREAD_UNCHANGED
  )
  np.testing.assert_array_equal(mask, np.uint8(label_image == 2) * 255)


def test_a_video_that_is_cut_off_is_done_up_to_there(tmp_path):
  path = write_video(tmp_path / "cut.mkv", num_frames=40, noise=60)
  data = path.read_bytes()
  path.write_bytes(data[: len(data) * 6 // 10])
  bad = tmp_path / "bad.mp4"
  bad.write_bytes(data[:100])
  last = write_video(tmp_path / "last.mp4", num_frames=2)
  problems = run(
    [], tmp_path / "out", predictor=SquarePredictor(), videos=[path, bad, last]
  )
  assert [p.path.name for p in problems] == ["cut.mkv", "bad.mp4"]
  dataset = read_json(tmp_path / "out" / "predictions.json")
  frames = [x["file_name"] for x in dataset["images"]]
  assert frames[-2:] == [str(last)] * 2
  number = frames.count(str(path))
  assert 10 < number < 30
  assert problems[0].reason.startswith(
    f"damaged or cut off: only {number} frames could be decoded, the last at "
  )
  assert problems[1].reason.startswith("not a video, or damaged")


def test_a_camera_runs_until_ctrl_c(tmp_path, monkeypatch):
  class Capture:
    """Gives five pictures, then Ctrl-C is pressed."""

    def __init__(self, index):
      assert index == 0
      self.index = 0

    def read(self):
      self.index += 1
      if self.index == 6:
        raise KeyboardInterrupt
      return True, squares(self.index)[..., ::-1]

    def get(self, prop):
      return 15.0

    def release(self):
      pass

  monkeypatch.setattr(video.cv2, "VideoCapture", Capture)
  out = tmp_path / "out"
  problems = run([], out, predictor=SquarePredictor(), cameras=[0])
  assert problems == []
  dataset = read_json(out / "predictions.json")
  assert [x["file_name"] for x in dataset["images"]] == ["camera 0"] * 4
  assert dataset["videos"][0]["fps"] == 15
  overlay = video.VideoFile(out / "overlays" / "camera 0.mp4")
  assert overlay.num_frames == 4


def test_no_such_camera(tmp_path, monkeypatch):
  capture = SimpleNamespace(read=lambda: (False, None))
  monkeypatch.setattr(video.cv2, "VideoCapture", lambda index: capture)
  problems = run([], tmp_path / "out", cameras=[3])
  assert str(problems[0].path) == "camera 3"
  assert "returns no pictures" in problems[0].reason


def test_nothing_found_is_a_result(tmp_path):
  class NothingPredictor(SquarePredictor):
    def detect(self, image):
      return super().detect(squares(0)).first(0)

  path = write_video(tmp_path / "clip.mp4", num_frames=3)
  image = write(tmp_path / "a.png", squares(0))
  out = tmp_path / "out"
  assert run([image], out, ALL, NothingPredictor(), videos=[path]) == []
  for name in ("predictions.json", "polygons.json"):
    dataset = read_json(out / name)
    assert dataset["annotations"] == [] and len(dataset["images"]) == 4
  label_image = cv2.imread(str(out / "labels" / "a.png"), cv2.IMREAD_UNCHANGED)
  assert label_image.dtype == np.uint16 and not label_image.any()
  assert video.VideoFile(out / "overlays" / "clip.mp4").num_frames == 3
