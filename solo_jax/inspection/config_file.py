"""Writes a configuration as a file like those of configs/."""

import json
import textwrap
from collections.abc import Mapping
from typing import Any

from solo_jax.config import stated
from solo_jax.errors import printable

WIDTH = 80
INDENT = " " * 6  # of a field


def format_config(
  config: Mapping[str, Any],
  given: Mapping[str, Any],
  reasons: Mapping[str, str],
  docstring: str,
) -> str:
  """Writes a configuration as the source of a config file.

  Args:
    config: Sections of fields.
    given: The configuration it is based on, for the previous values.
    reasons: Why fields were changed, by 'section.field'.
    docstring: Docstring of the file; the first line is a summary.

  Returns:
    Python source whose `get_config()` returns `config`. It states the fields
    that were changed, each with its reason, and those that differ from the
    defaults.
  """
  # Names and paths in it must not end it: the file is going to be run.
  docstring = printable(docstring.strip(), keep="\n").replace('"""', "'''")
  lines = [
    f'r"""{docstring}',
    '"""',
    "",
    "import ml_collections",
    "",
    "from solo_jax.config import make_config, parse_arg",
    "",
    "",
    'def get_config(arg: str = "") -> ml_collections.ConfigDict:',
    '  """Returns the configuration; `arg` takes `steps=...`."""',
    f"  arg = parse_arg(arg, steps={config['training']['num_steps']})",
    "  return make_config(",
  ]
  sections: dict[str, list[str]] = {}
  for field, value in stated(config, also=reasons):
    section, _, name = field.name.rpartition(".")
    text = _entry(f"{name}=", value, WIDTH - len(INDENT))
    if name == "num_steps":
      text = f"{name}=arg.steps,"
    entries = sections.setdefault(section, [])
    if field.name in reasons:
      comment = printable(_reason(field.name, given[section][name], reasons))
      entries.append(_explained(text, comment, field.comment))
    else:
      _pack(entries, text)
  lines += [f"    {entry}" for entry in sections.pop("")]
  for section, entries in sections.items():
    line = f"    {section}=dict({entries[0].removesuffix(',')}),"
    if len(entries) == 1 and "\n" not in line and len(line) <= WIDTH:
      lines.append(line)
    else:
      block = "\n".join(entry.rstrip() for entry in entries)
      lines += [
        f"    {section}=dict(",
        textwrap.indent(block, INDENT),
        "    ),",
      ]
  return "\n".join([*lines, "  )", ""])


def _pack(entries: list[str], text: str) -> None:
  """Adds a field to the last line if it fits, else on a new one."""
  last = entries[-1] if entries else ""
  fits = len(INDENT) + len(last) + 1 + len(text) <= WIDTH
  if last and "\n" not in last and fits:
    entries[-1] = f"{last} {text}"
  else:
    entries.append(text)


def _reason(name: str, was: Any, reasons: Mapping[str, str]) -> str:
  """Returns why a field was changed; a repeated reason is abbreviated."""
  first = next(x for x in reasons if reasons[x] == reasons[name])
  return f"Was {_literal(was)}: " + (
    reasons[name] if first == name else f"as {first}"
  )


def _explained(text: str, reason: str, note: str) -> str:
  """Returns the lines of a changed field, which stay separate."""
  width = WIDTH - len(INDENT)
  if len(f"{text}  # {reason}") <= width:
    return f"{text}  # {reason}\n"
  if note and len(f"{text}  # {note}") <= width:
    text = f"{text}  # {note}"
  wrapped = textwrap.wrap(
    reason, width, initial_indent="# ", subsequent_indent="# "
  )
  return "\n".join([*wrapped, text]) + "\n"


def _entry(start: str, value: Any, width: int) -> str:
  """Writes a value after a prefix, one item per line if it is too long."""
  line = f"{start}{_literal(value)},"
  if len(line) <= width or not isinstance(value, (tuple, list, Mapping)):
    return line
  is_dict = isinstance(value, Mapping)
  named = value.items() if is_dict else [("", item) for item in value]
  items = [
    _entry(f"{name}=" if name else "", item, width - 2) for name, item in named
  ]
  block = textwrap.indent("\n".join(items), "  ")
  return f"{start}{'dict(' if is_dict else '('}\n{block}\n),"


def _literal(value: Any) -> str:
  """Writes a value as ruff would format it."""
  if isinstance(value, str):
    return json.dumps(value, ensure_ascii=False)
  if isinstance(value, (tuple, list)):
    parts = [_literal(x) for x in value]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
  if isinstance(value, Mapping):
    return f"dict({', '.join(f'{k}={_literal(x)}' for k, x in value.items())})"
  return repr(value)
