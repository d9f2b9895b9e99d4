"""Tests of solo_jax/data/coco_values.py."""

import pytest

from solo_jax.data.coco_values import id_problem, is_number, read_ids, to_int
from solo_jax.data.findings import Findings


@pytest.mark.parametrize(
  ("value", "expected"),
  [
    (12, 12),
    (12.0, 12),
    ("12", 12),
    (" -12.00 ", -12),
    (2.0**53, 2**53),
    (2.0**54, None),
    (2**63, None),
    ("9" * 19, None),
    ("9" * 400, None),
    ("1e3", None),
    ("١٢", None),
    (12.5, None),
    ("12.5", None),
    (float("nan"), None),
    (float("inf"), None),
    (True, None),
    (None, None),
    ([], None),
  ],
)
def test_whole_numbers_are_converted(value, expected):
  assert to_int(value) == expected


def test_numbers_are_finite():
  values = (1, 1.5, True, float("inf"), float("nan"), 10**400, "1")
  assert [is_number(x) for x in values] == [True, True, *[False] * 5]


def test_ids_become_integers_and_are_counted():
  items = [dict(id="7"), dict(id=8.0), dict(id=9), dict(id="x"), 5]
  findings = Findings()
  read_ids(items, ("id",), "a.json", findings)
  assert items == [dict(id=7), dict(id=8), dict(id=9), dict(id="x"), 5]
  ((name, count, example),) = findings.repairs.kinds()
  assert (name, count) == ("id that is not written as an integer", 2)
  assert example == "a.json: id '7' is read as 7"


def test_ids_have_to_be_there_once():
  assert id_problem(dict(id=3), {}) is None
  assert "used before" in id_problem(dict(id=3), {3: None})
  assert "without an integer id" in id_problem(dict(id="x"), {})
  assert "without an integer id" in id_problem("text", {})
