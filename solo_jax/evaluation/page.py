"""A self-contained web page, for report and doctor.

Version, date and command are shown below its title, so that the origin of a
page sent by mail is known.
"""

import dataclasses
import datetime
import html
import json
import pathlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

_FOLDER = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Heading:
  """The heading of a page.

  Attributes:
    title: Title of the page.
    command: The command line that made it; '' for none.
  """

  title: str
  command: str = ""


def build(
  heading: Heading,
  body: str,
  *,
  data: Mapping[str, Any] | None = None,
  styles: Sequence[str] = (),
  scripts: Sequence[str] = (),
) -> str:
  """Returns a page.

  Args:
    heading: The heading.
    body: HTML.
    data: For the scripts, plain values that JSON has.
    styles: Names of style sheets next to this file, in addition to page.css.
    scripts: Names of scripts next to this file, in their order.

  Returns:
    HTML. No text of `heading` or `data` can become markup.
  """
  time = datetime.datetime.now(datetime.UTC)
  made = f"Made {time:%Y-%m-%d %H:%M} UTC by solo_jax "
  rest = ""
  if data is not None:
    # Escaped, so that no text can close the script element of the data.
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    rest += f'<script type="application/json" id="data">{text}</script>\n'
  if scripts:
    rest += f"<script>\n{''.join(map(read, scripts))}</script>"
  parts = dict(
    title=html.escape(heading.title),
    style="".join(map(read, ("page.css", *styles))),
    made=made + metadata.version("solo_jax"),
    command=html.escape(heading.command),
    body=body,
    rest=rest,
  )
  # Split once: what is filled in is not searched for names of parts.
  first, *pieces = read("page.html").split("{{")
  filled = [first]
  for piece in pieces:
    name, _, after = piece.partition("}}")
    filled += [parts[name], after]
  return "".join(filled)


def read(name: str) -> str:
  """Returns the text of a file next to this one."""
  return (_FOLDER / name).read_text(encoding="utf-8")
