"""Tests of solo_jax/predict.py."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from solo_jax import predict, types


class NothingPredictor:
  """Finds nothing."""

  class_names = ("cat",)
  category_ids = (3,)
  num_dropped = 0
  compilations = SimpleNamespace()
  exif = "ignore"

  def summary(self, num_dropped):
    return f"nothing compiled, {num_dropped} dropped"

  def stream(self, images):
    for index, image in enumerate(images):
      yield (
        index,
        types.Instances(
          masks=np.zeros((0, *image.shape[:2]), bool),
          scores=np.zeros(0, np.float32),
          labels=np.zeros(0, np.int32),
          boxes_xyxy=np.zeros((0, 4), np.float32),
        ),
      )


def test_main_exits_with_1_after_a_bad_file(tmp_path, monkeypatch, capsys):
  good = tmp_path / "good.png"
  assert cv2.imwrite(str(good), np.zeros((40, 60, 3), np.uint8))
  bad = tmp_path / "bad.png"
  bad.touch()
  loaded = []

  def from_checkpoint(path, **options):
    loaded.append((path, options))
    return NothingPredictor()

  monkeypatch.setattr(
    predict.api.Predictor, "from_checkpoint", staticmethod(from_checkpoint)
  )
  monkeypatch.setattr(predict, "use_compilation_cache", lambda: None)
  monkeypatch.setattr(
    predict,
    "FLAGS",
    SimpleNamespace(
      checkpoint="run",
      out=str(tmp_path / "out"),
      score_threshold=0.3,
      batch_size=2,
      save=["rle"],
      flip=True,
      scale=[1.0, 1.5],
      max_pixels=2400,
      exif=None,
      show=["contour"],
      colors="class",
    ),
  )
  predict.main(str(good))
  assert "1 image in" in capsys.readouterr().out
  with pytest.raises(SystemExit, match="1 of 2 inputs could not be read"):
    predict.main(str(good), str(bad))
  told = capsys.readouterr().err
  assert f"{bad}: the file is empty" in told and "nothing compiled" in told
  options = dict(batch_size=2, scales=[1.0, 1.5], flip=True, few_shapes=True)
  assert loaded == [("run", options)] * 2
