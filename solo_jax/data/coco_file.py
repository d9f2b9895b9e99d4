"""Parses the structure of a COCO annotation file, and its categories."""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from solo_jax import file_kinds
from solo_jax.data.coco_values import is_int, is_number, show, to_int
from solo_jax.data.file_tree import is_text
from solo_jax.data.findings import Findings
from solo_jax.errors import UserError

_REMEDY = (
  "Need a COCO instances file: an object with the lists images, annotations "
  "and categories."
)
# Formats of annotation tools, by a key that only they use.
_TOOLS = {
  "shapes": "labelme",
  "imagePath": "labelme",
  "_via_img_metadata": "VIA",
  "_via_settings": "VIA",
  "file_attributes": "VIA",
  "label_config": "Label Studio",
  "predictions": "Label Studio",
  "asset": "VoTT",
  "samples": "FiftyOne",
  "features": "GeoJSON",
}


@dataclasses.dataclass(frozen=True)
class Categories:
  """Classes of a file.

  Attributes:
    labels: Label 0..K-1 of each category id, by increasing id.
    names: Name of each label, all different.
    frequencies: LVIS's frequency of each label; empty without them.
  """

  labels: dict[int, int]
  names: tuple[str, ...]
  frequencies: tuple[str, ...]


def parse(text: bytes, name: str) -> dict[str, list]:
  """Returns the three lists of a file.

  Args:
    text: Content of the file: UTF-8, with a byte order mark or not, or UTF-16.
    name: Its name, for messages.

  Returns:
    The object that has the lists.

  Raises:
    UserError: If the file is anything else; the message says what it is.
  """
  try:
    content = json.loads(text)
  except ValueError as error:
    found = file_kinds.what_it_is(text[:256])
    is_known = found != file_kinds.UNKNOWN and text.lstrip()[:1] not in b"{["
    reason = f"is {found}" if is_known or not text else f"is not JSON: {error}"
    raise UserError(f"{name} {reason}. {_REMEDY}") from error
  except RecursionError as error:
    raise UserError(f"{name} is nested too deeply. {_REMEDY}") from error
  tool = _name_tool(content)
  if not isinstance(content, dict):
    kind = type(content).__name__
    raise UserError(f"{name} holds a {kind} at the top{tool}. {_REMEDY}")
  for key in ("images", "annotations", "categories"):
    if not isinstance(content.get(key), list):
      found = ", ".join(content)[:200] or "nothing"
      raise UserError(
        f"{name} has no list {key!r}; it has {found}{tool}. {_REMEDY}"
      )
  return content


def _name_tool(content: Any) -> str:
  """Returns the tool whose own format this is, as the end of a sentence."""
  first = content
  if isinstance(content, list):
    first = content[0] if content else None
  elif (
    isinstance(content, dict)
    and len(content)
    and isinstance(value := next(iter(content.values())), dict)
  ):
    first = content | value  # VIA: one object per image
  if not isinstance(first, dict):
    return ""
  for key, tool in _TOOLS.items():
    if key in first:
      return f", the format of {tool}: export from {tool} as COCO"
  return ""


def read_categories(
  items: Sequence, name: str, findings: Findings
) -> Categories:
  """Returns the categories of a file.

  Args:
    items: Entries of the file.
    name: Name of the file, for messages.
    findings: Collects repairs.

  Returns:
    The classes.

  Raises:
    UserError: If there are no categories, one has no id or name, or two have
      the same id.
  """
  categories = {}
  for item in items:
    key, class_name = _read_category(item, name)
    if not is_int(item["id"]):
      findings.repairs.add(
        "category id that is not written as an integer",
        f"{name}: category id {show(item['id'])} is read as {key}",
      )
    if categories.setdefault(key, class_name) != class_name:
      raise UserError(
        f"{name}: two categories have the id {key}: {show(categories[key])} "
        f"and {show(class_name)}."
      )
  if not categories:
    raise UserError(f"{name}: the list of categories is empty.")
  categories = dict(sorted(categories.items()))
  _tell_names_apart(categories, name, findings)
  return Categories(
    labels={key: label for label, key in enumerate(categories)},
    names=tuple(categories.values()),
    frequencies=_read_frequencies(items, name),
  )


def _read_category(item: Any, name: str) -> tuple[int, str]:
  key = to_int(item.get("id")) if isinstance(item, dict) else None
  class_name = item.get("name") if isinstance(item, dict) else None
  if is_number(class_name):
    class_name = str(class_name)
  if key is None or not is_text(class_name):
    raise UserError(f"{name}: category {show(item)} needs an id and a name.")
  return key, class_name


def _tell_names_apart(
  categories: dict[int, str], name: str, findings: Findings
) -> None:
  """Adds the id to names shared by several categories, as names are keys."""
  counts = collections.Counter(categories.values())
  for key, class_name in categories.items():
    if counts[class_name] > 1:
      new = f"{class_name} (id {key})"
      while new in counts:
        new += "'"
      categories[key] = new
      findings.repairs.add(
        "class with the name of another, renamed with its id",
        f"{name}: category {key}, {show(class_name)}, is called {show(new)}",
      )


def _read_frequencies(items: Sequence[Mapping], name: str) -> tuple[str, ...]:
  """Returns LVIS's frequencies by increasing category id, () without them."""
  if not any("frequency" in item for item in items):
    return ()
  frequencies = {}
  for item in items:
    if item.get("frequency") not in ("r", "c", "f"):
      raise UserError(
        f"{name}: category {item['id']} has the frequency "
        f"{show(item.get('frequency'))}; need r, c or f, or none at all."
      )
    frequencies[to_int(item["id"])] = item["frequency"]
  return tuple(frequencies[key] for key in sorted(frequencies))
