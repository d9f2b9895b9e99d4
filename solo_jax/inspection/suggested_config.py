"""A configuration that is being improved, and the reason for each change."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

ROOM = 1.25  # room for more than was seen


@dataclasses.dataclass
class Suggestion:
  """A configuration that is being improved.

  Attributes:
    config: All sections as plain dicts, changed so far.
    reasons: Why each changed field was changed, by 'section.field'.
  """

  config: dict[str, Any]
  reasons: dict[str, str] = dataclasses.field(default_factory=dict)

  def set(self, key: str, value: Any, reason: str) -> None:
    """Changes a field; no reason is kept if it already has the value.

    Args:
      key: 'section.field'.
      value: New value.
      reason: Half a line.
    """
    section, field = key.split(".")
    if self.config[section][field] != value:
      self.config[section][field] = value
      self.reasons[key] = reason

  def changes(self, given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the changes.

    Args:
      given: Sections of the original configuration.

    Returns:
      was, suggested and why of each 'section.field'.
    """
    changes = {}
    for key, reason in self.reasons.items():
      section, field = key.split(".")
      changes[key] = dict(
        was=given[section][field],
        suggested=self.config[section][field],
        why=reason,
      )
    return changes

  def at_least(self, key: str, needed: float, multiple: int, what: str) -> None:
    """Raises a capacity to the need plus some room, if it is lower.

    Args:
      key: 'section.field'.
      needed: Largest number seen.
      multiple: The new capacity is a multiple of it.
      what: What was counted.
    """
    section, field = key.split(".")
    if self.config[section][field] < needed:
      value = math.ceil(needed * ROOM / multiple) * multiple
      self.set(key, value, f"up to {needed} {what}")
