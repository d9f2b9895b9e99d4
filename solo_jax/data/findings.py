"""What is found while data is read, counted by kind.

Nothing is lost in silence: what is left out is a problem, what is read
otherwise than it is written a repair, what deserves a look a note.
"""

import collections
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from solo_jax.terminal import plural

# Lines kept of each kind; all are counted.
_MAX_LINES = 1000


class Kind(NamedTuple):
  """How often something was found.

  Attributes:
    name: What it is, without names of files or ids.
    count: How often.
    example: The first line.
  """

  name: str
  count: int
  example: str


class Tally:
  """Lines by kind, most frequent kind first."""

  def __init__(self):
    self._lines: dict[str, list[str]] = collections.defaultdict(list)
    self._counts = collections.Counter()

  def add(self, kind: str, line: str) -> None:
    """Counts one thing.

    Args:
      kind: What it is, in the same words for all of the kind.
      line: The same with the names of file, image and annotation.
    """
    self._counts[kind] += 1
    if len(self._lines[kind]) < _MAX_LINES:
      self._lines[kind].append(line)

  def add_many(self, kind: str, count: int, line: str) -> None:
    """Counts many of a kind, of which one line is kept."""
    self.add(kind, line)
    self._counts[kind] += count - 1

  def extend(self, other: "Tally") -> None:
    """Counts all of another tally as well."""
    for kind, lines in other._lines.items():
      self._counts[kind] += other._counts[kind]
      self._lines[kind] += lines[: _MAX_LINES - len(self._lines[kind])]

  def __len__(self) -> int:
    return self._counts.total()

  def kinds(self) -> list[Kind]:
    """Returns each kind, the most frequent first."""
    return [
      Kind(name, count, self._lines[name][0])
      for name, count in self._counts.most_common()
    ]

  def lines(self) -> list[str]:
    """Returns the lines, those of the most frequent kind first."""
    return [
      line
      for name, _ in self._counts.most_common()
      for line in self._lines[name]
    ]


class Findings:
  """All that is found while a dataset is read.

  Attributes:
    problems: Of what is left out.
    repairs: Of what is read otherwise than it is written.
    notes: Of what deserves a look.
  """

  def __init__(self):
    self.problems, self.repairs, self.notes = Tally(), Tally(), Tally()

  def extend(self, other: "Findings") -> None:
    """Counts all of other findings as well."""
    self.problems.extend(other.problems)
    self.repairs.extend(other.repairs)
    self.notes.extend(other.notes)


def list_kinds(kinds: Iterable[Sequence], limit: int = 10) -> list[str]:
  """Returns lines for a person.

  Args:
    kinds: (name, count, example) each, as of `Tally.kinds`.
    limit: Kinds shown; of the others the count.

  Returns:
    '  3 x name', and below it '      for example: ...', one pair a kind.
  """
  kinds, lines = list(kinds), []
  for name, count, example in kinds[:limit]:
    lines += [f"  {count:,} x {name}", f"      for example: {example}"]
  if len(kinds) > limit:
    rest = sum(count for _, count, _ in kinds[limit:])
    lines.append(f"  {rest:,} of {plural(len(kinds) - limit, 'other kind')}")
  return [printable(line) for line in lines]


def printable(text: str) -> str:
  """Returns a text of a file with control characters as escapes.

  A terminal acts on them: they may hide lines or change its title.
  """
  return "".join(
    repr(x)[1:-1] if ord(x) < 32 or 127 <= ord(x) < 160 else x for x in text
  )
