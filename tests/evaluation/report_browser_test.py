"""Tests of the report's page in a real browser, if there is one."""

import re
import zlib

import contrast
import pytest

from tests.evaluation.report_test import EVIL, build, summarize, write

PHONE = dict(width=390, height=844)


@pytest.fixture(scope="module")
def report(scenes, tmp_path_factory):
  """A written report of three images."""
  folder = tmp_path_factory.mktemp("report")
  return write(folder, *summarize(build(scenes, EVIL, "dog")))


@pytest.fixture(scope="module")
def opened(browser):
  """Opens a written report; any error or request of the page fails the test."""
  pages = []

  def open_page(path, **options):
    page = browser.new_page(**options)
    page.set_default_timeout(600_000)  # of milliseconds, for busy machines
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


@pytest.fixture(scope="module")
def only_page(report, opened):
  return opened(report, viewport=dict(width=1200, height=900))


@pytest.fixture
def page(only_page, report):
  """The page as it opens; one for all tests."""
  only_page.goto("about:blank")
  only_page.goto(report.as_uri())
  return only_page


def go(page, **choice):
  """Follows a link to images."""
  page.evaluate("x => { location.hash = toImages(x) }", choice)


def shown(page):
  """Names of the images in the gallery."""
  texts = page.locator(".card .caption").all_inner_texts()
  return [text.splitlines()[0] for text in texts]


def expect_images(page, *names):
  """Waits until the gallery shows these images."""
  page.wait_for_function(
    """names => JSON.stringify(
      [...document.querySelectorAll(".card .caption")].map(
        (x) => x.firstChild.textContent)) === JSON.stringify(names)""",
    arg=list(names),
  )


def test_scores_are_those_of_the_terminal(scenes, tmp_path, opened, page):
  """52.35 from 0.52349 and 52.4 from 0.523545: rounded once."""
  data, images = summarize(build(scenes, "cat", "dog"), ())
  for value, text in ((0.523545, "52.4"), (0.5234999, "52.3")):
    data["metrics"]["mask_AP"] = value
    assert f"{100 * value:.1f}" == text  # as eval.py prints it
    page.goto(write(tmp_path, data, images).as_uri())
    assert page.locator(".tile b").first.inner_text() == text


def test_clicking_a_column_sorts_the_table(page, scenes, tmp_path):
  built = build(scenes, "cat", "dog")
  built.dataset["categories"].append(dict(id=90, name="ant"))
  page.goto(write(tmp_path, *summarize(built)).as_uri())

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


def test_clicking_a_number_shows_its_images(page):
  # Image 3 has nothing to find and nothing found.
  assert shown(page) == ["2.png", "1.png"]
  errors = page.locator("#errors a")
  assert "1 with a score of at least 0.3" in errors.nth(1).inner_text()
  errors.filter(has_text="Wrong class").first.click()
  expect_images(page, "2.png")
  assert "error=class" in page.url
  assert page.locator("#count").inner_text() == "1 image: wrong class"
  # What the choice is about is marked, everything else is pale.
  assert page.locator(".card .lit").count() == 1
  page.get_by_role("link", name="dog", exact=True).press("Enter")
  expect_images(page, "2.png", "1.png")
  page.get_by_role("link", name=f"dog as {EVIL}: 1").first.click()
  expect_images(page, "2.png")
  page.go_back()
  expect_images(page, "2.png", "1.png")
  go(page, quality="9")
  expect_images(page, "1.png")
  go(page, bin="8")
  expect_images(page, "2.png")
  go(page, error="missed", size="small")
  expect_images(page, "2.png")
  go(page, error="missed", size="large")
  expect_images(page)
  page.get_by_role("button", name="All images").click()
  expect_images(page, "2.png", "1.png")
  page.locator("#name").fill("1.P")
  expect_images(page, "1.png")


def test_an_address_opens_what_it_names(page, report):
  page.goto(report.as_uri() + "#class=dog&order=best&image=2")
  page.reload()
  assert page.locator("#viewer").is_visible()
  assert page.locator("#viewer-title").inner_text() == "2.png"
  assert page.locator("#sort").input_value() == "best"
  page.goto(report.as_uri() + "#score=nonsense&order=what&unknown=1")
  page.reload()
  expect_images(page, "1.png", "2.png")


def test_a_higher_score_leaves_fewer_detections(page):
  go(page, score="0.7")
  # The dog of 0.6 in image 2 is gone; that of 0.5 in image 1 is missed.
  page.wait_for_function(
    "document.querySelector('#score-value').textContent === '0.70'"
  )
  captions = dict(
    text.splitlines() for text in page.locator(".caption").all_inner_texts()
  )
  assert captions["2.png"].endswith("2 objects, 1 detected: 1 wrong, 2 missed")
  assert captions["1.png"].endswith("2 objects, 1 detected: 0 wrong, 1 missed")


def test_an_image_opens_with_its_mistakes(page):
  page.locator(".card", has_text="2.png").click()
  viewer = page.locator("#viewer")
  assert viewer.is_visible()
  assert page.locator("#viewer-title").inner_text() == "2.png"
  for side in ("truth", "found"):
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
    assert page.locator(f"#{side}-frame g").count() == 2
  mistakes = page.locator("#mistakes button")
  assert mistakes.all_inner_texts() == [
    f"1 wrong class {EVIL} 0.80",
    "2 nothing there dog 0.60",
    "3 missed dog",
    "4 missed dog",
  ]
  # By keyboard and touch as by hovering.
  lit = page.locator("#found-frame .lit")
  page.keyboard.press("2")
  assert lit.count() == 1
  assert mistakes.nth(1).get_attribute("aria-pressed") == "true"
  mistakes.nth(1).focus()
  page.keyboard.press("Enter")
  assert lit.count() == 0
  page.keyboard.press("Escape")
  assert not viewer.is_visible()
  # The focus is back where it was.
  assert page.evaluate("document.activeElement.textContent").startswith("2.png")
  page.keyboard.press("Enter")
  page.keyboard.press("ArrowRight")
  assert page.locator("#viewer-title").inner_text() == "1.png"
  assert "image=1" in page.url


def test_an_image_is_enlarged(page):
  page.locator(".card").first.click()
  stage = page.locator("#found-frame .stage")
  width = stage.bounding_box()["width"]
  page.keyboard.press("+")
  assert stage.bounding_box()["width"] == pytest.approx(1.5 * width, rel=0.01)
  page.keyboard.press("-")
  assert stage.bounding_box()["width"] == pytest.approx(width, rel=0.01)


def test_truth_and_detection_have_one_colour(page):
  def colors(image, side):
    return page.locator(f"#{side}-frame .edge").evaluate_all(
      "x => x.map((path) => path.getAttribute('stroke'))"
    )

  go(page, image="2")
  page.locator("#viewer").wait_for()
  # A cat covers the first dog; a dog covers nothing.
  assert set(colors(2, "truth")) == {"#ff0000", "#00ff00"}
  assert set(colors(2, "found")) == {"#ff0000", "#c0c0c0"}
  page.locator("#show-viewer select").select_option("class")
  assert set(colors(2, "truth")) == {"#00ff00"}
  assert set(colors(2, "found")) == {"#ff0000", "#00ff00"}
  for name in ("contour", "fill", "labels"):
    page.locator("#show-viewer").get_by_label(name).uncheck()
  page.locator("#show-viewer").get_by_label("boxes").check()
  for part, is_shown in (
    ("edge", False),
    ("area", False),
    ("sign", False),
    ("box", True),
  ):
    first = page.locator(f"#found-frame .{part}").first
    assert first.is_visible() == is_shown, part


def test_labels_do_not_overlap(page):
  go(page, image="2")
  page.locator("#viewer").wait_for()
  for side in ("truth", "found"):
    signs = page.locator(f"#{side}-frame .sign")
    boxes = [signs.nth(i).bounding_box() for i in range(signs.count())]
    boxes = [box for box in boxes if box]
    assert boxes
    for i, a in enumerate(boxes):
      for b in boxes[:i]:
        apart = [
          a[axis] + a[size] <= b[axis] or b[axis] + b[size] <= a[axis]
          for axis, size in (("x", "width"), ("y", "height"))
        ]
        assert any(apart)


def test_curves_of_a_class_and_their_values(page):
  before = page.locator("#curves path").first.get_attribute("d")
  page.select_option("#curve-class", label="dog")
  assert page.locator("#curves path").first.get_attribute("d") != before
  area = page.locator("#curves rect")
  area.hover(position=dict(x=1, y=5))
  readout = page.locator("#curves-readout").inner_text()
  assert readout.startswith("recall 0: precision 50.0 (IoU 0.50)")
  area.click(position=dict(x=1, y=5))
  expect_images(page, "2.png", "1.png")
  assert "class=dog&score=0.60" in page.url


def test_one_unit_and_what_is_all_wrong_is_drawn(page, scenes, tmp_path):
  built = build(scenes, "cat", "dog")
  built.found("cat", (60, 60, 5, 5), 0.15, 3).found(
    "cat", (60, 0, 5, 5), 0.1, 3
  )
  page.goto(write(tmp_path, *summarize(built)).as_uri())
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
  counts = page.locator("#calibration .count").all_text_contents()
  assert counts == ["2", "1", "1", "1", "1"]
  wrong = bins.first
  assert wrong.get_attribute("fill") == "none"
  assert float(wrong.get_attribute("height")) > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_text(report, opened, scheme):
  page = opened(report, color_scheme=scheme, viewport=PHONE, has_touch=True)
  back = page.evaluate("getComputedStyle(document.body).backgroundColor")
  assert (int(re.findall(r"\d+", back)[0]) > 127) == (scheme == "light")
  page.locator("details").evaluate("x => { x.open = true }")
  assert not contrast.find_faint_text(page)
  # Nothing is wider than a telephone.
  assert page.evaluate("document.documentElement.scrollWidth") <= 390
  page.locator(".card").first.tap()
  title = page.locator("#viewer-title")
  lines = title.evaluate(
    "x => x.getBoundingClientRect().height / "
    "parseFloat(getComputedStyle(x).lineHeight)"
  )
  assert lines < 2.5
  assert not contrast.find_faint_text(page)
  page.locator("#mistakes button").first.tap()
  assert page.locator("#viewer .lit").count() == 1


def colors_of(pdf):
  """Colours that a PDF file fills with, as 'r g b'."""
  found = set()
  for stream in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
    try:
      text = zlib.decompress(stream)
    except zlib.error:
      continue  # an image or a font of another kind
    for color in re.findall(rb"([\d.]+ [\d.]+ [\d.]+) rg\b", text):
      found.add(" ".join(f"{float(x):.3f}" for x in color.split()))
  return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_printed_page_is_white_with_bars(report, opened, scheme):
  page = opened(report, color_scheme=scheme)
  page.emulate_media(media="print", color_scheme=scheme)
  color, back = page.evaluate(
    "[getComputedStyle(document.body).color, "
    "getComputedStyle(document.body).backgroundColor]"
  )
  assert max(map(int, re.findall(r"\d+", color))) < 60
  assert min(map(int, re.findall(r"\d+", back))) > 240
  for part in (".bar .fill", "#confusion td", ".stack div", ".tile"):
    exact = page.locator(part).first.evaluate(
      "x => getComputedStyle(x).printColorAdjust"
    )
    assert exact == "exact", part
  assert not page.locator("#tools").is_visible()
  assert not contrast.find_faint_text(page)
  # Backgrounds are off by default; the red of the error bars is on the paper.
  red = " ".join(f"{int(x, 16) / 255:.3f}" for x in ("c2", "2a", "41"))
  assert red in colors_of(page.pdf(print_background=False))


@pytest.mark.parametrize("num_objects", [0, 1])
def test_a_report_of_nothing_opens(scenes, tmp_path, page, num_objects):
  built = scenes("cat").image(1)
  for _ in range(num_objects):
    built.truth("cat", (0, 0, 10, 10))
  page.goto(write(tmp_path, *summarize(built)).as_uri())
  assert page.locator(".tile b").first.inner_text() == (
    "0.0" if num_objects else "–"
  )
  assert page.locator("#stages tbody tr").count() == 3
