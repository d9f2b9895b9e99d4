"""Tests of solo_jax/data/findings.py."""

from solo_jax.data.findings import (
  Findings,
  Tally,
  list_kinds,
)
from solo_jax.errors import printable


def test_most_frequent_kind_comes_first():
  tally = Tally()
  tally.add("rare", "a: rare")
  for i in range(3):
    tally.add("often", f"{i}: often")
  assert len(tally) == 4
  assert tally.kinds() == [("often", 3, "0: often"), ("rare", 1, "a: rare")]
  assert tally.lines() == ["0: often", "1: often", "2: often", "a: rare"]


def test_all_are_counted_and_the_first_thousand_of_a_kind_kept():
  tally, other = Tally(), Tally()
  for i in range(1500):
    tally.add("x", str(i))
  other.add_many("x", 10, "other")
  tally.extend(other)
  assert tally.kinds() == [("x", 1510, "0")]
  assert tally.lines() == [str(i) for i in range(1000)]


def test_findings_extend_each_tally():
  first, second = Findings(), Findings()
  second.repairs.add("a", "1")
  first.extend(second)
  assert (len(first.problems), len(first.repairs), len(first.notes)) == (
    0,
    1,
    0,
  )


def test_kinds_are_listed_with_counts_and_examples():
  kinds = [("a\x1b[2J", 1200, "x"), ("b", 2, "y"), ("c", 1, "z")]
  assert list_kinds(kinds, limit=1) == [
    "  1,200 x a\\x1b[2J",
    "      for example: x",
    "  3 of 2 other kinds",
  ]


def test_control_characters_are_shown_not_sent():
  assert printable("a\x1b]0;x\x07b\n\x9b核") == "a\\x1b]0;x\\x07b\\n\\x9b核"
