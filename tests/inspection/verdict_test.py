"""Tests of solo_jax/inspection/verdict.py."""

from types import SimpleNamespace

import pytest

from solo_jax.inspection.verdict import verdict_table
from solo_jax.methods.interface import Way

SMALL, LATE = Way("too small", ""), Way("no cell left", "")


def lines(*, warning="", suggested=None, lost=None, changes=(), findings=()):
  values = {"this config": 0.523545}
  if suggested is not None:
    values["suggestion"] = suggested
  column = dict(instances=200, lost=lost or {SMALL: 0, LATE: 0})
  found = SimpleNamespace(
    ceilings={
      name: SimpleNamespace(oracle=SimpleNamespace(mask_AP=value))
      for name, value in values.items()
    },
    scored=[None],
    warning=warning,
    findings=list(findings),
  )
  judged = {
    f"{split}, this config": column for split in ("training", "evaluation")
  }
  table = verdict_table(found, judged, dict.fromkeys(changes))
  assert not table.header
  return [row[0] for row in table.rows]


def test_the_verdict_of_a_config_that_loses_nothing():
  ceiling, lost, advice = lines()
  assert ceiling == (
    "A perfect network scores 52.4 mask AP on 1 image: the ceiling of this "
    "config."
  )
  assert "No object gets lost" in lost and "Nothing to change" in advice


def test_what_is_lost_and_what_to_change():
  ceiling, lost, advice, finding = lines(
    suggested=0.7, lost={SMALL: 1, LATE: 4}, changes=["a.b"], findings=["x"]
  )
  assert ceiling.endswith("of this config; 70.0 with the suggestion.")
  assert "5 (2.5 %) of those to train on, mostly: no cell left" in lost
  assert "Change 1 field, see" in advice
  assert finding.startswith("1 finding ")


@pytest.mark.parametrize("changes", [(), ("a.b",)])
def test_a_suggestion_that_allows_less_is_not_followed(changes):
  texts = lines(warning="warning", suggested=0.1, changes=changes)
  assert texts[2] == "Keep this config: the suggestion allows less."
