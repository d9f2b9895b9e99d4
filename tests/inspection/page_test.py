"""Tests of solo_jax/inspection/page.py, in a real browser if there is one."""

import contrast
import numpy as np
import PIL.Image
import pytest

from solo_jax.evaluation.page import Heading
from solo_jax.inspection import page
from solo_jax.inspection.report import Table

EVIL = "<b>cat</b> & 'dog'"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
  """A page with a verdict, a table of numbers and one of words."""
  out = tmp_path_factory.mktemp("doctor")
  PIL.Image.fromarray(np.zeros((40, 900, 3), np.uint8)).save(out / "lost.png")
  tables = [
    Table(title="Verdict", header=[], rows=[["All is well."], [EVIL]]),
    Table(
      title="Classes",
      header=["class", "train: images"],
      rows=[[EVIL, "1,200"]],
      note="first\nsecond",
    ),
    Table(title="Why", header=["field", "why"], rows=[["a.b", "word " * 30]]),
  ]
  tables.append(Table(title="Last", header=[], rows=[["line"]]))
  heading = Heading(title="my data", command="python -m solo_jax.x")
  return page.write(out, heading, tables, ["lost"])


def test_the_verdict_comes_first_and_names_are_text(path):
  text = path.read_text()
  assert "<b>cat" not in text and text.count("&lt;b&gt;cat") == 2
  order = [
    text.index(f"<h2>{x}")
    for x in ("Verdict", "Classes", "Why", "Objects", "Last")
  ]
  assert order == sorted(order)
  assert "first<br>second" in text and "python -m solo_jax.x" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_on_a_phone(path, browser, scheme):
  opened = browser.new_page(
    viewport=dict(width=390, height=844), color_scheme=scheme
  )
  requests = []
  opened.on("request", lambda request: requests.append(request.url))
  opened.goto(path.as_uri())
  assert opened.locator("h1").inner_text() == "my data"
  picture = opened.locator("img.sheet")
  assert picture.evaluate("x => x.naturalWidth") == 900
  assert not contrast.find_faint_text(opened)
  assert opened.evaluate("document.documentElement.scrollWidth") <= 390
  assert all(url.startswith(("file:", "data:")) for url in requests)
  opened.close()
