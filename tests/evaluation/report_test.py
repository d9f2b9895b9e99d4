"""Tests of solo_jax/evaluation/report.py, in a real browser if there is one."""

import io
import json
import re

import numpy as np
import PIL.Image
import pytest

from solo_jax.evaluation import coco_metrics, judging, microscopy, report

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


def jpeg(shade):
  file = io.BytesIO()
  PIL.Image.fromarray(np.full((60, 80, 3), shade, np.uint8)).save(file, "JPEG")
  return file.getvalue()


def write(folder, data, chosen):
  ids = {image.image_id for images in chosen.values() for image in images}
  return report.write(
    str(folder),
    data,
    title="solov2 on scenes",
    facts={"step": "9,000", "data": EVIL},
    stages={"reading": 1.5, "network, decoding": 3.0},
    total_seconds=5.0,
    pictures={
      key: report.Pictures(name=f"{key}.png", truth=jpeg(90), found=jpeg(180))
      for key in ids
    },
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
  data, chosen = summarize(built)
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
  assert {k: [x.image_id for x in v] for k, v in chosen.items()} == {
    "best": [1, 2],
    "worst": [2, 1],
    "confusing": [2],
  }
  (confusing,) = data["images"]["confusing"]
  assert {(m["kind"], m["name"]) for m in confusing["mistakes"]} == {
    ("class", "cat"),
    ("background", "dog"),
    ("missed", "dog"),
  }


def test_mistakes_are_those_of_the_threshold(scenes):
  built = scenes("cat").image(1).truth("cat", (0, 0, 10, 10))
  built.found("cat", (0, 0, 10, 10), 0.2).found("cat", (40, 0, 9, 9), 0.1)
  data, _ = summarize(built, ())
  (worst,) = data["images"]["worst"]
  # What was found only below the threshold is missed in the picture.
  assert [m["kind"] for m in worst["mistakes"]] == ["missed"]
  assert worst["mistakes"][0]["box"] == [0, 0, 10, 10]


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
  assert data["metrics"]["mask_AP_L"] is None
  assert data["calibration"]["scores"][0] is None  # NaN is no JSON


@pytest.mark.parametrize("num_objects", [0, 1])
def test_nothing_detected(scenes, tmp_path, num_objects):
  built = scenes("cat").image(1)
  for _ in range(num_objects):
    built.truth("cat", (0, 0, 10, 10))
  data = read_data(write(tmp_path, *summarize(built)))
  assert data["metrics"]["mask_AP"] == (0 if num_objects else None)
  assert len(data["curves"]) == num_objects


@pytest.fixture
def open_page(browser, tmp_path):
  """Opens a written report; any error or request of the page fails the test."""
  pages = []

  def open_page(path, **options):
    page = browser.new_page(**options)
    page.set_default_timeout(120_000)  # of milliseconds, for busy machines
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on(
      "request",
      lambda request: (
        request.url.startswith(("file:", "data:"))
        or page.problems.append(request.url)
      ),
    )
    page.goto(path.as_uri())
    pages.append(page)
    return page

  yield open_page
  for page in pages:
    assert not page.problems
    page.close()


def test_a_table_sorts_in_the_browser(scenes, tmp_path, open_page):
  built = build(scenes, "cat", "dog")
  built.dataset["categories"].append(dict(id=90, name="ant"))
  page = open_page(write(tmp_path, *summarize(built)))

  def names():
    return page.locator("#classes tbody td:first-child").all_inner_texts()

  assert names() == ["cat", "dog", "ant"]
  page.get_by_role("button", name="class", exact=True).click()
  assert names() == ["ant", "cat", "dog"]
  # A dog is found at precision 1, 1 of 3; a cat with a wrong one after it.
  page.get_by_role("button", name="AP50", exact=True).click()
  assert names() == ["cat", "dog", "ant"]
  heading = page.locator("#classes th[aria-sort]")
  assert heading.get_attribute("aria-sort") == "descending"
  page.get_by_role("button", name="AP50", exact=True).click()
  assert names() == ["dog", "cat", "ant"]  # what has no AP stays last


def test_an_image_opens_in_the_browser(scenes, tmp_path, open_page):
  page = open_page(write(tmp_path, *summarize(build(scenes, EVIL, "dog"))))
  assert page.title() == "solov2 on scenes"
  page.get_by_role("tab", name="Most confusing").click()
  viewer = page.locator("#viewer")
  assert not viewer.is_visible()
  page.locator(".card").click()
  assert viewer.is_visible()
  assert page.locator("#viewer-title").inner_text() == "2.png"
  for side, boxes in (("truth", 2), ("found", 2)):
    picture = page.locator(f"#{side}-frame img")
    assert picture.evaluate("x => [x.naturalWidth, x.naturalHeight]") == [
      80,
      60,
    ]
    frame, overlay = (
      page.locator(f"#{side}-frame {tag}").bounding_box()
      for tag in ("img", "svg")
    )
    assert frame == pytest.approx(overlay, abs=1)
    assert page.locator(f"#{side}-frame g").count() == boxes
  mistakes = page.locator("#mistakes li").all_inner_texts()
  assert f"class {EVIL} 0.80" in mistakes and "missed dog" in mistakes
  page.locator("#show-boxes").uncheck()
  assert not page.locator("#found-frame svg").is_visible()
  page.keyboard.press("Escape")
  assert not viewer.is_visible()
  page.get_by_role("tab", name="Best").click()
  page.locator(".card").first.click()
  page.keyboard.press("ArrowRight")
  assert page.locator("#viewer-title").inner_text() == "2.png"


def test_curves_of_a_class_and_their_values(scenes, tmp_path, open_page):
  page = open_page(write(tmp_path, *summarize(build(scenes, "cat", "dog"))))
  before = page.locator("#curves path").first.get_attribute("d")
  page.select_option("#curve-class", label="dog")
  assert page.locator("#curves path").first.get_attribute("d") != before
  page.locator("#curves rect").hover(position=dict(x=1, y=5))
  readout = page.locator("#curves-readout").inner_text()
  assert readout.startswith("recall 0: precision 50.0 (IoU .50)")


def test_one_unit_and_what_is_all_wrong_is_drawn(scenes, tmp_path, open_page):
  built = build(scenes, "cat", "dog")
  built.found("cat", (60, 60, 5, 5), 0.15, 3).found(
    "cat", (60, 0, 5, 5), 0.1, 3
  )
  page = open_page(write(tmp_path, *summarize(built)))
  assert "from 0 to 100, as eval prints them" in " ".join(
    page.locator("#units").inner_text().split()
  )
  labels = {
    name: page.locator(f"#{name} > svg > text").all_text_contents()
    for name in ("curves", "sweep", "calibration")
  }
  assert labels["curves"].count("25") == 2
  for name in ("sweep", "calibration"):
    assert "25" in labels[name] and ".25" in labels[name]
  bins = page.locator("#calibration .bin")
  assert page.locator("#calibration .count").all_text_contents() == [
    "2",
    "1",
    "1",
    "1",
    "1",
  ]
  wrong = bins.first
  assert wrong.get_attribute("fill") == "none"
  assert float(wrong.get_attribute("height")) > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(scenes, tmp_path, open_page, scheme):
  page = open_page(
    write(tmp_path, *summarize(build(scenes, "cat", "dog"))),
    color_scheme=scheme,
    viewport=dict(width=390, height=800),
  )

  def luminance(selector, name):
    color = page.locator(selector).first.evaluate(
      f"x => getComputedStyle(x).{name}"
    )
    rgb = np.array([int(x) for x in re.findall(r"\d+", color)[:3]]) / 255
    linear = np.where(
      rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92
    )
    return linear @ [0.2126, 0.7152, 0.0722]

  page_light = luminance("body", "backgroundColor")
  assert (page_light > 0.5) == (scheme == "light")
  back = luminance("section", "backgroundColor")
  for selector in ("h2", ".note", "#classes td"):
    text = luminance(selector, "color")
    bright, dark = max(text, back) + 0.05, min(text, back) + 0.05
    assert bright / dark > 4.5, selector  # WCAG AA
  # Nothing is wider than a telephone.
  assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("num_objects", [0, 1])
def test_a_report_of_nothing_opens(scenes, tmp_path, open_page, num_objects):
  built = scenes("cat").image(1)
  for _ in range(num_objects):
    built.truth("cat", (0, 0, 10, 10))
  page = open_page(write(tmp_path, *summarize(built)))
  assert page.locator(".tile b").first.inner_text() == (
    "0.0" if num_objects else "–"
  )
  assert page.locator("#stages tbody tr").count() == 3
