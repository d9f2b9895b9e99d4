"""Tests of solo_jax/terminal.py."""

import io

import pytest
import rich.console

from solo_jax import terminal


@pytest.mark.parametrize(
  ("count", "noun", "text"),
  [
    (0, "image", "0 images"),
    (1, "class", "1 class"),
    (2, "class", "2 classes"),
    (1234, "box", "1,234 boxes"),
  ],
)
def test_plural(count, noun, text):
  assert terminal.plural(count, noun) == text


def test_tables_are_narrow_and_plain():
  table = terminal.make_table("", "train", "validation")
  table.add_row("images", "2,000", "200")
  file = io.StringIO()
  rich.console.Console(file=file, width=60).print(table)
  lines = [line.rstrip() for line in file.getvalue().splitlines()]
  assert [line.split() for line in lines if "─" not in line] == [
    ["train", "validation"],
    ["images", "2,000", "200"],
  ]
  assert max(map(len, lines)) <= 30
  assert lines[0].endswith("validation") and lines[-1].endswith("200")
