"""Tests of solo_jax/evaluation/microscopy.py."""

import json
import pathlib
import runpy

import cv2
import numpy as np
import pytest

from solo_jax.evaluation import microscopy

ORACLE = pathlib.Path(__file__).parents[3] / "shared" / "score_nuclei.py"


def evaluate(scenes, score_threshold=0.3):
  return microscopy.evaluate(
    microscopy.overlaps(scenes.dataset, scenes.results), score_threshold
  )


def test_metrics_of_microscopy_by_hand(scenes):
  built = scenes().image(1)
  built.truth("cat", (0, 0, 10, 10)).truth("cat", (20, 0, 10, 10))
  # IoU 0.8, Dice 160 / 180; one that hits nothing; one below the threshold.
  built.found("cat", (0, 0, 10, 8), 0.9).found("dog", (50, 40, 5, 5), 0.8)
  built.found("cat", (20, 0, 10, 10), 0.2)
  # TP / (TP + FP + FN) is 1 / 3 at 0.50 to 0.75; IoU 0.8 is not above 0.80.
  assert evaluate(built) == {
    "dsb_AP": pytest.approx(0.6 / 3),
    "dsb_AP50": pytest.approx(1 / 3),
    # Both ways the mean of 160 / 180 and 0.
    "SBD": pytest.approx(80 / 180),
    "abs_DiC": 0,
  }
  # From 0.1 on all is found, with one too many.
  assert evaluate(built, 0.1) == {
    "dsb_AP": pytest.approx((6 * 2 / 3 + 4 * 1 / 4) / 10),
    "dsb_AP50": pytest.approx(2 / 3),
    "SBD": pytest.approx((160 / 180 + 1) / 3),
    "abs_DiC": 1,
  }


def test_the_higher_score_keeps_the_pixels(scenes):
  built = scenes().image(1).truth("cat", (0, 0, 20, 10))
  built.found("cat", (10, 0, 20, 10), 0.9).found("cat", (0, 0, 20, 10), 0.8)
  (image,) = microscopy.overlaps(built.dataset, built.results)
  assert image.scores.tolist() == [0.9, 0.8]
  assert image.found_areas.tolist() == [200, 100]
  assert image.intersections.tolist() == [[100, 100]]


def test_hidden_detections_are_none(scenes):
  built = scenes().image(1).truth("cat", (0, 0, 20, 10))
  built.found("cat", (0, 0, 20, 10), 0.9).found("cat", (5, 0, 5, 5), 0.8)
  assert evaluate(built)["abs_DiC"] == 0
  assert evaluate(built)["dsb_AP"] == 1


def test_empty_images(scenes):
  # Nothing and nothing; objects without detections; the other way round.
  built = scenes().image(1).image(2).image(3)
  built.truth("cat", (0, 0, 5, 5), 2).found("cat", (0, 0, 5, 5), 0.9, 3)
  found = evaluate(built)
  assert found["dsb_AP"] == pytest.approx(1 / 3)
  assert found["SBD"] == pytest.approx(1 / 3)
  assert found["abs_DiC"] == pytest.approx(2 / 3)


def test_crowds_are_left_out(scenes):
  built = scenes().image(1).truth("cat", (0, 0, 20, 10), iscrowd=1)
  assert evaluate(built) == {
    "dsb_AP": 1,
    "dsb_AP50": 1,
    "SBD": 1,
    "abs_DiC": 0,
  }


def random_boxes(rng, number):
  corners = rng.integers(0, (60, 40), (number, 2))
  return [(*map(int, c), *map(int, rng.integers(4, 20, 2))) for c in corners]


@pytest.mark.skipif(not ORACLE.exists(), reason=f"needs {ORACLE}")
def test_equals_an_independent_script(scenes, tmp_path, monkeypatch):
  rng = np.random.default_rng(0)
  built = scenes("cat")
  for folder in ("truth", "found"):
    (tmp_path / folder).mkdir()
  for image_id in range(1, 9):
    built.image(image_id)
    truth = np.zeros((60, 80), np.uint8)
    for i, (x, y, w, h) in enumerate(random_boxes(rng, int(rng.integers(6)))):
      truth[y : y + h, x : x + w] = i + 1
    values = [v for v in np.unique(truth) if v]
    found = np.zeros((60, 80), np.uint8)
    for v in values:  # disjoint objects, as boxes of what is left of them
      rows, columns = np.nonzero(truth == v)
      x, y = int(columns.min()), int(rows.min())
      w, h = int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1
      if (truth[y : y + h, x : x + w] != v).any():
        truth[truth == v] = 0
        continue
      built.truth("cat", (x, y, w, h), image_id)
      score = round(float(rng.uniform(0.31, 1)), 3)
      # Some reach into a neighbour, or into another detection.
      box = (x, y, max(1, w + int(rng.integers(-4, 6))), h)
      built.found("cat", box, score, image_id)
    mine = [r for r in built.results if r["image_id"] == image_id]
    for i, r in enumerate(sorted(mine, key=lambda r: r["score"])):
      x, y, w, h = map(int, r["bbox"])
      found[y : y + h, x : x + w] = i + 1
    cv2.imwrite(str(tmp_path / "truth" / f"{image_id}.png"), truth)
    cv2.imwrite(str(tmp_path / "found" / f"{image_id}.png"), found)
  out = tmp_path / "scores.json"
  arguments = dict(gt="truth", pred="found", json=out.name, boot=0)
  monkeypatch.setattr(
    "sys.argv",
    [
      str(ORACLE),
      *(f"--{name}={value}" for name, value in arguments.items()),
    ],
  )
  monkeypatch.chdir(tmp_path)
  runpy.run_path(str(ORACLE), run_name="__main__")
  expected = json.loads(out.read_text())["all"]
  result = evaluate(built)
  assert 0.1 < result["dsb_AP"] < 0.9
  assert result["dsb_AP"] == pytest.approx(expected["dsb"]["value"])
  assert result["dsb_AP50"] == pytest.approx(expected["dsb50"]["value"])
