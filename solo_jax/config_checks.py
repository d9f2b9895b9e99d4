"""Types and conditions of single configuration fields."""

import dataclasses
from collections.abc import Callable
from typing import Any

REQUIRED = object()  # instead of a default: every config must state a value
ALL = ()  # of every method, of every backbone


@dataclasses.dataclass(frozen=True)
class Check:
  """The valid values of a field.

  Attributes:
    kind: Type of the values, also on the command line.
    condition: Completes the sentence "it must be ...".
    accepts: Takes a value of this type.
    is_optional: Whether it may be None, which means off.
  """

  kind: type
  condition: str
  accepts: Callable[[Any], bool] = lambda value: True
  is_optional: bool = False

  def holds(self, value: Any) -> bool:
    """Returns whether a field may have this value."""
    if value is None:
      return self.is_optional
    if isinstance(value, bool) and self.kind is not bool:
      return False  # an int for Python
    kinds = (int, float) if self.kind is float else self.kind
    return isinstance(value, kinds) and self.accepts(value)

  def problems(self, name: str, value: Any) -> list[str]:
    """Returns the problems of a field's value, one line each."""
    if self.holds(value):
      return []
    return [f"{name} is {value!r}; it must be {self.condition}"]


@dataclasses.dataclass(frozen=True)
class Field:
  """One row of the table.

  Attributes:
    name: 'section.field'; in a call of `section`, 'field'.
    neutral: The default value, or REQUIRED.
    check: Its valid values.
    comment: A few words; may be empty.
    of: The methods, or in the section `backbone` the backbones, that have it.
      Empty: all.
  """

  name: str
  neutral: Any
  check: Check
  comment: str = ""
  of: tuple[str, ...] = ALL


def section(
  name: str, of: tuple[str, ...], *fields: Field
) -> tuple[Field, ...]:
  """Returns rows with their section and the methods they belong to.

  Args:
    name: Name of the section; empty for fields outside of any section.
    of: See Field.
    *fields: Rows with their own names only.

  Returns:
    The rows of the table.
  """
  prefix = f"{name}." if name else ""
  return tuple(
    dataclasses.replace(field, name=f"{prefix}{field.name}", of=of)
    for field in fields
  )


def optional(check: Check) -> Check:
  """Returns a check that also allows None."""
  return dataclasses.replace(
    check, condition=f"{check.condition}, or None", is_optional=True
  )


def one_of(*choices: Any) -> Check:
  """Returns a check for one of these values, all of the same type."""
  return Check(
    type(choices[0]),
    f"one of {', '.join(map(repr, choices))}",
    lambda value: value in choices,
  )


def each(check: Check, length: int | None = None, at_least: int = 0) -> Check:
  """Returns a check for a tuple whose values all pass another check.

  Args:
    check: Check of a single value.
    length: Number of values; None: any.
    at_least: Smallest number of values.

  Returns:
    The check.
  """
  number = f"{length} values" if length else "values"
  if at_least:
    number = f"{at_least} or more values"
  return Check(
    tuple,
    f"a tuple of {number}, each {check.condition}",
    lambda values: (
      len(values) >= at_least
      and length in (None, len(values))
      and all(map(check.holds, values))
    ),
  )


def low_high(check: Check) -> Check:
  """Returns a check for a tuple (low, high) of values of another check."""
  return Check(
    tuple,
    f"a tuple (low, high), each {check.condition}",
    lambda pair: (
      len(pair) == 2 and all(map(check.holds, pair)) and pair[0] <= pair[1]
    ),
  )


TEXT = Check(str, "non-empty text", lambda value: value != "")
FLAG = Check(bool, "True or False")
COUNT = Check(int, "a whole number, 0 or above", lambda value: value >= 0)
POSITIVE = Check(int, "a whole number above 0", lambda value: value > 0)
NUMBER = Check(float, "a number")
AMOUNT = Check(float, "a number, 0 or above", lambda value: value >= 0)
FACTOR = Check(float, "a number above 0", lambda value: value > 0)
SHARE = Check(float, "a number from 0 to 1", lambda value: 0 <= value <= 1)
SIZES = each(POSITIVE, at_least=1)
