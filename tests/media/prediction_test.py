"""Tests of solo_jax/media/prediction.py."""

import dataclasses
import io
import json
import pathlib
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from rich.console import Console

from solo_jax import cli, types, visualization
from solo_jax.data.transforms import to_rgb
from solo_jax.errors import UserError
from solo_jax.evaluation import rle
from solo_jax.media import prediction, saving
from solo_jax.media.inputs import Inputs

ALL = ("overlay", "masks", "polygons", "rle", "labels", "views")


SCORE_NUCLEI = pathlib.Path(__file__).parents[3] / "shared" / "score_nuclei.py"


class BandPredictor:
  """Two overlapping instances on each image, and a third of a low score."""

  has_views = True
  class_names = ("cat", "dog")
  category_ids = (3, 44)

  num_dropped = 0

  def summary(self, num_dropped):
    return f"nothing compiled, {num_dropped} dropped"

  def views(self, image):
    return {"inverted": 255 - to_rgb(image)}

  def stream(self, images):
    found = [(i, self.detect(to_rgb(image))) for i, image in enumerate(images)]
    yield from reversed(found)

  def detect(self, image):
    height, width = image.shape[:2]
    masks = np.zeros((3, height, width), bool)
    masks[0, : height // 2] = True
    masks[1, height // 4 :, : width // 2] = True
    masks[2] = True
    boxes = [
      [0, 0, width, height // 2],
      [0, height // 4, width // 2, height],
      [0, 0, width, height],
    ]
    return types.Instances(
      masks=masks,
      scores=np.array([0.9, 0.5, 0.1], np.float32),
      labels=np.array([1, 0, 0], np.int32),
      boxes_xyxy=np.array(boxes, np.float32),
    )


def write(path, image):
  path.parent.mkdir(parents=True, exist_ok=True)
  assert cv2.imwrite(str(path), image)
  return path


def run(paths, out, save=("overlay", "rle"), predictor=None, **inputs):
  """Predicts; returns the problems."""
  return prediction.predict_inputs(
    predictor or BandPredictor(),
    Inputs(images=paths, **inputs),
    out,
    score_threshold=0.3,
    save=save,
    progress=cli.make_progress(Console(file=io.StringIO())),
  )[1]


def read_json(path):
  return json.loads(path.read_text())


def test_views_are_next_to_the_image(tmp_path):
  image = np.full((300, 400, 3), 40, np.uint8)
  run([write(tmp_path / "a.png", image)], tmp_path / "out", ["views"])
  picture = cv2.imread(str(tmp_path / "out" / "views" / "a.png"))
  gap = visualization.GAP
  panels = picture[-gap - 300 : -gap]
  assert (panels[:, gap : gap + 400] == 40).all()
  assert (panels[:, 2 * gap + 400 : 2 * gap + 800] == 215).all()


def test_a_method_without_views_is_refused(tmp_path):
  predictor = BandPredictor()
  predictor.has_views = False
  with pytest.raises(UserError, match="--save=views: this checkpoint's method"):
    run([], tmp_path, ["views"], predictor)


def test_writes_overlays_and_coco_json(tmp_path):
  a = write(tmp_path / "in/a.jpg", np.zeros((40, 60, 3), np.uint8))
  b = write(tmp_path / "in/b.png", np.zeros((80, 30), np.uint8))
  out = tmp_path / "new" / "out"
  assert run([a, b], out) == []

  assert sorted(p.name for p in out.iterdir()) == [
    "overlays",
    "predictions.json",
  ]
  picture = cv2.imread(str(out / "overlays" / "a.png"))
  assert picture.shape[0] * 60 == picture.shape[1] * 40
  assert picture.any()

  dataset = json.loads((out / "predictions.json").read_text())
  assert dataset["images"] == [
    dict(id=1, file_name=str(a), height=40, width=60),
    dict(id=2, file_name=str(b), height=80, width=30),
  ]
  assert dataset["categories"] == [
    dict(id=3, name="cat"),
    dict(id=44, name="dog"),
  ]
  found = dataset["annotations"]
  assert [x["id"] for x in found] == [1, 2, 3, 4]
  assert [x["image_id"] for x in found] == [1, 1, 2, 2]
  assert [x["category_id"] for x in found] == [44, 3, 44, 3]
  assert [x["area"] for x in found] == [20 * 60, 30 * 30, 40 * 30, 60 * 15]
  assert found[1]["bbox"] == [0, 10, 30, 30]
  assert found[0]["score"] == pytest.approx(0.9)
  masks = rle.decode([found[1]["segmentation"]], (40, 60))
  assert masks[0, 10:, :30].all() and masks.sum() == 900


def test_pycocotools_reads_the_json(tmp_path, capsys):
  path = write(tmp_path / "a.png", np.zeros((40, 60, 3), np.uint8))
  run([path], tmp_path / "out")
  coco = COCO(str(tmp_path / "out" / "predictions.json"))
  capsys.readouterr()
  assert coco.annToMask(coco.anns[1]).sum() == 20 * 60


def test_label_images_prefer_the_higher_score(tmp_path):
  path = write(tmp_path / "cell.png", np.zeros((40, 60), np.uint8))
  run([path], tmp_path / "out", ["labels"])
  label_image = cv2.imread(
    str(tmp_path / "out" / "labels" / "cell.png"), cv2.IMREAD_UNCHANGED
  )
  assert label_image.dtype == np.uint16
  expected = np.zeros((40, 60), int)
  expected[10:, :30] = 2
  expected[:20] = 1
  np.testing.assert_array_equal(label_image, expected)
  scores = json.loads((tmp_path / "out" / "scores.json").read_text())
  assert scores == {"cell": {"1": pytest.approx(0.9), "2": 0.5}}


@pytest.mark.skipif(not SCORE_NUCLEI.exists(), reason="needs score_nuclei.py")
def test_the_nuclei_scorer_reads_the_labels(tmp_path):
  path = write(tmp_path / "cell.png", np.zeros((40, 60), np.uint8))
  out = tmp_path / "out"
  run([path], out, ["labels"])
  subprocess.run(
    [sys.executable, SCORE_NUCLEI, "--boot=0"]
    + [f"--gt={out / 'labels'}", f"--pred={out / 'labels'}"]
    + [f"--scores={out / 'scores.json'}", f"--json={tmp_path / 'x.json'}"],
    check=True,
    capture_output=True,
  )
  result = json.loads((tmp_path / "x.json").read_text())
  assert result["all"]["AP"]["value"] == pytest.approx(1)


def test_cropped_masks_give_the_same_files(tmp_path, monkeypatch):
  """Of an image read in tiles; here as many as an overlay may draw, or not."""

  def crop(found):
    boxes = found.boxes_xyxy.astype(int)
    return dataclasses.replace(
      found,
      masks=types.CroppedMasks(
        size=found.masks.shape[1:],
        corners=[(top, left) for left, top, _, _ in boxes],
        crops=[
          mask[top:bottom, left:right]
          for mask, (left, top, right, bottom) in zip(
            found.masks, boxes, strict=True
          )
        ],
      ),
    )

  path = write(tmp_path / "a.png", np.full((40, 60, 3), 99, np.uint8))
  run([path], tmp_path / "dense", ALL)
  detect = BandPredictor.detect
  monkeypatch.setattr(
    BandPredictor, "detect", lambda self, image: crop(detect(self, image))
  )
  run([path], tmp_path / "cropped", ALL)
  monkeypatch.setattr(saving, "MAX_DRAWN_PIXELS", 40 * 60)
  run([path], tmp_path / "few", ALL)
  names = [
    x.relative_to(tmp_path / "dense") for x in (tmp_path / "dense").rglob("*.*")
  ]
  # An overlay, two COCO files, scores, a label image, two masks, a view.
  assert len(names) == 8
  for name in names:
    expected = (tmp_path / "dense" / name).read_bytes()
    assert (tmp_path / "cropped" / name).read_bytes() == expected
    is_equal = (tmp_path / "few" / name).read_bytes() == expected
    assert is_equal == (name.parts[0] != "overlays")


def test_bad_files_are_named_and_the_others_done(tmp_path):
  good = write(tmp_path / "good.png", np.zeros((40, 60, 3), np.uint8))
  empty = tmp_path / "empty.png"
  empty.touch()
  text = tmp_path / "notes.png"
  text.write_text("not an image")
  cut = write(
    tmp_path / "cut.jpg",
    np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8),
  )
  cut.write_bytes(cut.read_bytes()[:-2000])
  real = tmp_path / "float.tiff"
  Image.fromarray(np.zeros((8, 8), np.float32)).save(real)
  missing = tmp_path / "missing.png"
  last = write(tmp_path / "last.png", np.zeros((40, 60, 3), np.uint8))
  problems = run(
    [good, empty, text, cut, real, missing, last], tmp_path / "out"
  )
  assert {p.path.name: p.reason for p in problems} == {
    "empty.png": "the file is empty",
    "notes.png": "not an image, or damaged",
    "cut.jpg": "not a readable image, or truncated",
    "float.tiff": "expected uint8 or uint16 pixels, got float32; scale the "
    "image to one of them",
    "missing.png": "No such file or directory",
  }
  dataset = json.loads((tmp_path / "out" / "predictions.json").read_text())
  names = [pathlib.Path(x["file_name"]).name for x in dataset["images"]]
  assert names == ["good.png", "last.png"]
  assert (tmp_path / "out" / "overlays" / "last.png").exists()


def test_image_that_declares_too_much_is_not_decoded(tmp_path, monkeypatch):
  """The header of a small file says 1 TB; nothing may ask for its pixels."""
  data = bytearray(cv2.imencode(".png", np.zeros((4, 6, 3), np.uint8))[1])
  data[16:24] = struct.pack(">II", 600_000, 600_000)
  data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
  path = tmp_path / "bomb.png"
  path.write_bytes(data)
  with monkeypatch.context() as without:
    without.setattr(cv2, "imdecode", None)
    (problem,) = run([path], tmp_path / "out")
  assert problem.path == path
  assert problem.reason == (
    "too large: its header declares 600000 x 600000 pixels (height x width), "
    "more than --max_pixels=268435456"
  )
