"""Tests of solo_jax/evaluation/report.py; report_browser_test.py opens it."""

import io
import json
import re

import numpy as np
import PIL.Image
import pytest

from solo_jax.evaluation import (
  coco_metrics,
  judging,
  microscopy,
  report,
  report_images,
  rle,
)

EVIL = '</script><b>cat</b> & "dog"'


def build(scenes, *names):
  """Two classes of different AP, and an image of each kind."""
  built = scenes(*names).image(1).image(2).image(3)
  good, bad = names
  built.truth(good, (0, 0, 10, 10)).found(good, (0, 0, 10, 10), 0.9)
  built.truth(bad, (20, 0, 10, 10)).found(bad, (20, 0, 10, 10), 0.5)
  built.truth(bad, (0, 0, 10, 10), 2).found(good, (0, 0, 10, 10), 0.8, 2)
  built.truth(bad, (30, 30, 10, 10), 2).found(bad, (60, 40, 9, 9), 0.6, 2)
  return built


def summarize(built, more_metrics=judging.METRICS):
  judged = judging.judge(
    built.dataset,
    built.results,
    max_detections=100,
    more_metrics=more_metrics,
    score_threshold=0.3,
  )
  return report.summarize(
    judged.masks,
    judged.metrics,
    score_threshold=0.3,
    overlaps=judged.overlaps,
  )


def picture(image, shade=90):
  """A grey image; its outlines are the boxes, in half pixels."""
  file = io.BytesIO()
  PIL.Image.fromarray(np.full((60, 80, 3), shade, np.uint8)).save(file, "JPEG")

  def outline(encoded):
    left, top, right, bottom = (2 * rle.boxes([encoded])[0]).astype(int)
    return report_images.Outline(
      path=f"M{left} {top}H{right}V{bottom}H{left}z",
      box=(int(left), int(top), int(right - left), int(bottom - top)),
      deepest=(int(left + right) // 2, int(top + bottom) // 2),
    )

  return report_images.Picture(
    name=f"{image.image_id}.png",
    jpeg=file.getvalue(),
    unit=2,
    objects=[outline(x) for x in image.objects],
    found=[outline(x) for x in image.found],
  )


def write(folder, data, shown):
  return report.write(
    str(folder),
    data,
    report.About(
      title="solov2 on scenes",
      command="python -m solo_jax.eval --checkpoint='a b'",
      facts={"step": "9,000", "data": EVIL},
      stages={"reading": 1.5, "network, decoding": 3.0},
      total_seconds=5.0,
    ),
    shown=shown,
    pictures={image.image_id: picture(image) for image in shown},
    palette=["#ff0000", "#00ff00", "#0000ff", "#c0c0c0"],
  )


def read_data(path):
  """The data of a written report."""
  (text,) = re.findall(
    r'<script type="application/json" id="data">(.*?)</script>',
    path.read_text(),
    re.DOTALL,
  )
  return json.loads(text)


def test_summary_agrees_with_the_metrics(scenes):
  built = build(scenes, "cat", "dog")
  data, shown = summarize(built)
  metrics = coco_metrics.evaluate(
    built.dataset, built.results, max_detections=100
  )
  rows = {row["name"]: row for row in data["classes"]}
  assert {k: r["AP"] for k, r in rows.items()} == metrics.class_mask_AP
  assert {k: r["AP50"] for k, r in rows.items()} == metrics.class_mask_AP50
  assert rows["dog"]["num_objects"] == 3 and rows["cat"]["num_detections"] == 2
  sizes = {row["name"]: row for row in data["sizes"]}
  assert sizes["all"]["AP"] == metrics.mask_AP
  assert data["box_source"] == "mask"
  assert sizes["small"]["AP"] == metrics.mask_AP_S
  assert sizes["small"]["num_objects"] == 4 and sizes["large"]["AP"] is None
  # The area under a curve at 101 recalls is its AP.
  curves = {row["name"]: row for row in data["curves"]}
  assert np.mean(curves["all classes"]["precisions"][-1]) == pytest.approx(
    metrics.mask_AP
  )
  assert np.mean(curves["dog"]["precisions"][0]) == pytest.approx(
    metrics.class_mask_AP50["dog"]
  )
  assert data["confusion"]["pairs"] == [
    dict(truth="dog", found="cat", number=1)
  ]
  overlaps = microscopy.overlaps(built.dataset, built.results)
  at = int(np.flatnonzero(np.isclose(report.SWEEP, 0.3))[0])
  assert data["sweep"]["dsb_AP"][at] == pytest.approx(
    microscopy.evaluate(overlaps, 0.3)["dsb_AP"]
  )
  assert [image.image_id for image in shown] == [1, 2, 3]


def test_sizes_add_up(scenes):
  """An object of 32 x 32 pixels counts twice in COCO, once in the table."""
  built = scenes("cat").image(1).truth("cat", (0, 0, 32, 32))
  data, _ = summarize(built.truth("cat", (40, 0, 10, 10)), ())
  numbers = {row["name"]: row["num_objects"] for row in data["sizes"]}
  assert numbers == dict(all=2, small=1, medium=1, large=0)


def test_a_large_split_keeps_the_images_to_look_at(scenes, monkeypatch):
  monkeypatch.setattr(report, "MAX_IMAGES", 3)
  built = scenes("cat")
  for key in range(1, 9):
    built.image(key).truth("cat", (0, 0, 10, 10), key)
    built.found("cat", (0, 0, 10 - key, 10), 0.9, key)
  data, shown = summarize(built, ())
  # The best one and the worst one, which has the surest mistake as well.
  assert [image.image_id for image in shown] == [1, 6]
  assert data["num_images"] == 8


def test_many_classes_are_shortened(scenes):
  names = [f"class {k:03}" for k in range(120)]
  built = scenes(*names).image(1)
  built.truth(names[77], (0, 0, 10, 10)).found(names[99], (0, 0, 10, 10), 0.9)
  data, _ = summarize(built, ())
  assert len(data["classes"]) == 120
  assert [curve["name"] for curve in data["curves"]] == ["all classes"]
  confusion = data["confusion"]
  assert len(confusion["names"]) == report.MAX_MATRIX_CLASSES
  assert {names[77], names[99]} <= set(confusion["names"])
  counts = np.array(confusion["counts"])
  row, column = (confusion["names"].index(names[k]) for k in (77, 99))
  assert counts[row, column] == 1 == counts.sum()


def test_file_is_self_contained_and_holds_any_name(scenes, tmp_path):
  path = write(tmp_path / "new", *summarize(build(scenes, EVIL, "dog")))
  assert path == tmp_path / "new" / "report.html"
  text = path.read_text()
  assert "<b>cat</b>" not in text
  assert not re.search(r'(src|href)="(?!data:)', text)
  data = read_data(path)
  assert data["classes"][0]["name"] == EVIL == data["facts"]["data"]
  assert "--checkpoint=&#x27;a b&#x27;" in text
  assert data["metrics"]["mask_AP_L"] is None
  assert data["calibration"]["scores"][0] is None  # NaN is no JSON


@pytest.mark.parametrize("num_objects", [0, 1])
def test_a_report_without_detections(scenes, tmp_path, num_objects):
  built = scenes("cat").image(1)
  for _ in range(num_objects):
    built.truth("cat", (0, 0, 10, 10))
  data = read_data(write(tmp_path, *summarize(built)))
  assert data["metrics"]["mask_AP"] == (0 if num_objects else None)
  assert len(data["curves"]) == num_objects
