"""Problems, repairs and notes found while data is read, counted by kind.

Nothing is lost silently: skipped data is a problem, data that is read
differently from how it is written is a repair, and anything worth checking is a
note.
"""

import collections
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from solo_jax.errors import printable
from solo_jax.terminal import plural

# Lines kept per kind; all are counted.
_MAX_LINES = 1000


class Kind(NamedTuple):
  """One kind of finding and how often it occurred.

  Attributes:
    name: The kind, without file names or ids.
    count: Number of occurrences.
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
    """Counts one finding.

    Args:
      kind: The finding, in the same words for all of its kind.
      line: The same with the names of file, image and annotation.
    """
    self._counts[kind] += 1
    if len(self._lines[kind]) < _MAX_LINES:
      self._lines[kind].append(line)

  def add_many(self, kind: str, count: int, line: str) -> None:
    """Counts several findings of a kind, keeping one line."""
    self.add(kind, line)
    self._counts[kind] += count - 1

  def extend(self, other: "Tally") -> None:
    """Adds the counts of another tally."""
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
  """All findings of reading a dataset.

  Attributes:
    problems: Skipped data.
    repairs: Data read differently from how it is written.
    notes: Data worth checking.
  """

  def __init__(self):
    self.problems, self.repairs, self.notes = Tally(), Tally(), Tally()

  def extend(self, other: "Findings") -> None:
    """Adds the counts of other findings."""
    self.problems.extend(other.problems)
    self.repairs.extend(other.repairs)
    self.notes.extend(other.notes)


def list_kinds(kinds: Iterable[Sequence], limit: int = 10) -> list[str]:
  """Returns the findings as lines of text.

  Args:
    kinds: (name, count, example) of each kind, see `Tally.kinds`.
    limit: Number of kinds shown; the others are only counted.

  Returns:
    '  3 x name', and below it '      for example: ...', one pair per kind.
  """
  kinds, lines = list(kinds), []
  for name, count, example in kinds[:limit]:
    lines += [f"  {count:,} x {name}", f"      for example: {example}"]
  if len(kinds) > limit:
    rest = sum(count for _, count, _ in kinds[limit:])
    lines.append(f"  {rest:,} of {plural(len(kinds) - limit, 'other kind')}")
  return [printable(line) for line in lines]
