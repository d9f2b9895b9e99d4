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


def test_control_characters_are_shown_as_escapes():
  """In lines and in cells; colours are rich's own."""
  file = io.StringIO()
  console = terminal.Console(file=file, width=80, markup=False)
  console.print("class \x1b]0;x\x07 of\nfile \udcff", style="bold")
  table = terminal.make_table("name", "n\x1b[31m")
  table.add_row("a\x9b31m\rb", "1")
  console.print(table)
  text = file.getvalue()
  assert not set(text) & {"\x1b", "\x07", "\x9b", "\r", "\udcff"}
  assert "class \\x1b]0;x\\x07 of\nfile \\udcff" in text
  assert "a\\x9b31m\\rb" in text and "n\\x1b[31m" in text


def test_tables_are_as_narrow_as_their_contents():
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
