"""Numbers and ids in annotation files, in the forms that exporters write."""

import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from solo_jax.data.findings import Findings

# Messages show only the beginning of a value, which may have any size.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
show = _SHORT.repr
# Above this, a float represents more than one whole number.
_EXACT = 2**53


def is_int(value: Any) -> bool:
  """Returns whether a value is an integer of 64 bits, as records hold them."""
  is_whole = isinstance(value, int) and not isinstance(value, bool)
  return is_whole and -(2**63) <= value < 2**63


def is_number(value: Any) -> bool:
  """Returns whether a value is a finite number of 64 bits."""
  return is_int(value) or isinstance(value, float) and math.isfinite(value)


def to_int(value: Any) -> int | None:
  """Returns an integer that may be written as text or as a float.

  Args:
    value: Anything that JSON holds.

  Returns:
    12 for 12, 12.0, '12' and '12.0'; None for anything else.
  """
  if is_int(value):
    return value
  if isinstance(value, str) and re.fullmatch(
    r"\s*[+-]?\d{1,19}(\.0*)?\s*", value, re.ASCII
  ):
    value = int(value.partition(".")[0])
    return value if is_int(value) else None
  if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
    return int(value)
  return None


def read_ids(
  items: Sequence, fields: Sequence[str], name: str, findings: Findings
) -> None:
  """Converts ids that are text or floats to integers, in place.

  Args:
    items: Images or annotations of a file.
    fields: Names of the id fields.
    name: Name of the file, for messages.
    findings: Collects the repairs.
  """
  for item in items:
    for field in fields if isinstance(item, dict) else ():
      value = item.get(field)
      if is_int(value) or (read := to_int(value)) is None:
        continue
      item[field] = read
      findings.repairs.add(
        f"{field} that is not written as an integer",
        f"{name}: {field} {show(value)} is read as {read}",
      )


def id_problem(item: Any, seen: Mapping[int, Any]) -> str | None:
  """Returns the problem of the id of an image or annotation, or None.

  Args:
    item: The image or annotation.
    seen: The earlier ids.

  Returns:
    The end of a sentence that begins with 'image' or 'annotation'.
  """
  if not isinstance(item, dict) or not is_int(item.get("id")):
    return f"without an integer id of 64 bits: {show(item)}"
  if item["id"] in seen:
    return f"{item['id']}: the id is used before"
  return None
