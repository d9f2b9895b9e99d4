"""Output of all commands: lines, tables, counts with nouns."""

import logging as std_logging
from typing import Any

import rich.box
import rich.console
import rich.table
import rich.text
from absl import logging

from solo_jax.errors import printable


class Console(rich.console.Console):
  """A console that escapes control characters in names.

  Names come from files, and a terminal would act on control characters.
  """

  def render_str(self, text: str, **options: Any) -> rich.text.Text:
    """Returns a text, or the cell of a table, with escapes."""
    return super().render_str(printable(text, keep="\n\t"), **options)


def plural(count: int, noun: str) -> str:
  """Returns '1 class' or '1,200 classes'.

  Examples:
    >>> plural(1, "class"), plural(1200, "class")
    ('1 class', '1,200 classes')
  """
  ending = "es" if noun.endswith(("s", "x")) else "s"
  return f"{count:,} {noun}{'' if count == 1 else ending}"


def make_table(*columns: str) -> rich.table.Table:
  """Returns a table for a terminal or a log file.

  Args:
    columns: Headings. The first column has names, the others numbers.

  Returns:
    A table without rows: one line below its heading, no frame, no colour.
  """
  table = rich.table.Table(
    box=rich.box.SIMPLE_HEAD,
    show_edge=False,
    pad_edge=False,
    padding=(0, 1, 0, 0),  # two letters between columns
  )
  for i, name in enumerate(columns):
    table.add_column(name, justify="right" if i else "left")
  return table


class PrintableFormatter(logging.PythonFormatter):
  """Escapes what a terminal would act on: messages quote names of files."""

  def format(self, record: std_logging.LogRecord) -> str:
    """Returns the line or lines of a record."""
    return printable(super().format(record), keep="\n\t")
