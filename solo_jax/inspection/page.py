"""The doctor's report as a self-contained page."""

import base64
import html
import io
import pathlib
from collections.abc import Sequence

from PIL import Image

from solo_jax.evaluation import page
from solo_jax.inspection.pictures import LOST_COLOR
from solo_jax.inspection.report import Table

# Headings and captions of the pictures, by name of the file.
CAPTIONS = {
  "training": (
    "What the network sees in training",
    "Left: an image as it is augmented. Then the mask targets at their own "
    "resolution, and how the method uses them: for grids, the cells of each "
    "object in its colour.",
  ),
  "lost": (
    "Objects that get lost",
    "The evaluated images that lose the most. Red outlines: lost objects; the "
    "title of the panel counts them by cause.",
  ),
  "suggested": (
    "What the network would see with the suggestion",
    "As above, with the suggested config.",
  ),
}


def write(
  out: pathlib.Path,
  heading: page.Heading,
  tables: Sequence[Table],
  drawn: Sequence[str],
) -> pathlib.Path:
  """Writes report.html.

  Args:
    out: Folder with the pictures.
    heading: Heading of the page.
    tables: Parts of the report: verdict, changes, findings, then the others.
    drawn: Names of the pictures, from CAPTIONS.

  Returns:
    The path of the file.
  """
  verdict, changes, findings, *others = tables
  red = "#{:02x}{:02x}{:02x}".format(*LOST_COLOR)
  body = [_section(verdict, "verdict"), _section(changes), _section(findings)]
  for name in drawn:
    title, text = CAPTIONS[name]
    body.append(
      f"<section><h2>{html.escape(title)}</h2>"
      f'<div class="wide" tabindex="0"><img class="sheet" '
      f'src="{_embed(out / f"{name}.png")}" alt="{html.escape(title)}"></div>'
      f'<p class="key"><span>{html.escape(text)}</span><span>'
      f'<i style="background: {red}"></i>gets lost</span></p></section>'
    )
  body += [_section(table) for table in others]
  path = out / "report.html"
  path.write_text(page.build(heading, "\n".join(body)), encoding="utf-8")
  return path


def _section(table: Table, of_list: str = "lines") -> str:
  """Returns a part of the report as HTML."""
  if table.header:
    head = "".join(f'<th scope="col">{_text(x)}</th>' for x in table.header)
    rows = "".join(
      f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>"
      for row in table.rows
    )
    kind = "words" if table.is_wordy else "numbers"
    content = (
      f'<div class="scroll" tabindex="0"><table class="{kind}"><thead><tr>'
      f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
  else:
    lines = "".join(f"<li>{_text(row[0])}</li>" for row in table.rows)
    content = f'<ul class="{of_list}">{lines}</ul>'
  note = f'<p class="note">{_text(table.note)}</p>' if table.note else ""
  return f"<section><h2>{_text(table.title)}</h2>{content}{note}</section>"


def _text(text: str) -> str:
  return html.escape(text).replace("\n", "<br>")


def _embed(path: pathlib.Path) -> str:
  """Returns a picture for an HTML attribute, as JPEG: a tenth of the PNG."""
  file = io.BytesIO()
  with Image.open(path) as image:
    image.convert("RGB").save(file, "JPEG", quality=85)
  return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
