"""The summary of the dataset doctor in a few lines, shown first."""

from collections.abc import Mapping
from typing import Any

from solo_jax.inspection.diagnosis import GIVEN, SUGGESTION, Diagnosis
from solo_jax.inspection.report import NO_CHANGE, Table
from solo_jax.terminal import plural


def verdict_table(
  found: Diagnosis,
  judged: Mapping[str, Mapping[str, Any]],
  changes: Mapping[str, Any],
) -> Table:
  """Returns what the configuration allows, what is lost and what to change.

  Args:
    found: The diagnosis.
    judged: `lost_instances.merge` by 'training, ...' and 'evaluation, ...'.
    changes: From `Suggestion.changes`.

  Returns:
    A part of the report without columns.
  """
  lines = [
    _ceiling(found),
    _lost(judged[f"training, {GIVEN}"], judged[f"evaluation, {GIVEN}"]),
    _advice(found, changes),
  ]
  if found.findings:
    lines.append(f"{plural(len(found.findings), 'finding')} to look at, below.")
  return Table(
    title="Verdict", header=[], rows=[[line] for line in lines if line]
  )


def _ceiling(found: Diagnosis) -> str:
  """Returns a line about the score of a perfect network."""
  values = {
    name: ceiling.oracle.mask_AP
    for name, ceiling in found.ceilings.items()
    if ceiling.oracle is not None  # not every method has perfect outputs
  }
  if values.get(GIVEN) is None:
    return ""
  line = (
    f"A perfect network scores {100 * values[GIVEN]:.1f} mask AP on "
    f"{plural(len(found.scored), 'image')}: the ceiling of this config"
  )
  if values.get(SUGGESTION) is None:
    return line + "."
  return f"{line}; {100 * values[SUGGESTION]:.1f} with the suggestion."


def _lost(training: Mapping[str, Any], scored: Mapping[str, Any]) -> str:
  """Returns a line about the number of lost objects and the main reason."""
  parts = []
  for name, column in (("to train on", training), ("evaluated", scored)):
    lost = sum(column["lost"].values())
    if lost:
      way = max(column["lost"], key=column["lost"].get)
      share = 100 * lost / max(column["instances"], 1)
      parts.append(f"{lost:,} ({share:.3g} %) of those {name}, mostly: {way}")
  if not parts:
    return "No object gets lost between annotation and targets."
  return f"Objects that get lost: {'; '.join(parts)}."


def _advice(found: Diagnosis, changes: Mapping[str, Any]) -> str:
  """Returns a line with the advice."""
  if found.warning:
    return "Keep this config: the suggestion allows less."
  if not changes:
    return NO_CHANGE
  return (
    f"Change {plural(len(changes), 'field')}, see Suggested changes, and train "
    "with suggested_config.py."
  )
