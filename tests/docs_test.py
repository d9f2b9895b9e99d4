"""Tests and files that docs/ names exist."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize(
  "page", [*PAGES, ROOT / "README.md"], ids=lambda p: p.stem
)
def test_links_lead_to_files(page):
  links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text())
  missing = [x for x in links if not (page.parent / x).exists()]
  assert not missing


def test_answers_name_tests_that_exist():
  file, missing = None, []
  for name, test in re.findall(
    r"`([\w/]*)::(\w+)`", (ROOT / "docs" / "pains.md").read_text()
  ):
    file = name or file  # "::x" is in the file named before
    path = ROOT / "tests" / f"{file}_test.py"
    if file != "file" and (
      not path.exists() or f"def test_{test}(" not in path.read_text()
    ):
      missing.append(f"{file}::{test}")
  assert not missing


def test_no_figure_is_left_to_be_filled_in():
  for page in PAGES:
    assert not re.search(r"@[A-Z]+@", page.read_text()), page.name
