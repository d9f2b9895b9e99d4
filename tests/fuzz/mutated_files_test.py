"""Runs the campaign of damaged files in a separate process.

Decoders written in C may crash a process without a word; the case that was
running is then known by the file that holds its number.
"""

import json
import pathlib
import subprocess
import sys

import pytest

CAMPAIGN = pathlib.Path(__file__).parent / "campaign.py"


@pytest.mark.parametrize(
  ("start", "count"),
  [(0, 300), pytest.param(300, 10_000, marks=pytest.mark.slow)],
)
def test_spoiled_files_are_prepared_or_refused(tmp_path, start, count):
  current = tmp_path / "current"
  result = subprocess.run(
    [
      *(sys.executable, "-X", "faulthandler", str(CAMPAIGN)),
      *(f"--start={start}", f"--count={count}", f"--current={current}"),
    ],
    capture_output=True,
    text=True,
    cwd=tmp_path,
  )
  *failures, summary = result.stdout.splitlines() or ["nothing"]
  assert result.returncode == 0, (
    f"in or before case {current.read_text()}: {summary}\n"
    + "\n".join(x[:60] + " ... " + x[-600:] for x in failures[:5])
    + result.stderr[-1000:]
  )
  outcomes = json.loads(summary)["outcomes"]
  assert sum(outcomes.values()) == count
  # Every kind was damaged in ways that are reported and in ways that are not.
  for kind in ("annotations", "bytes", "image", "archive", "labels", "index"):
    found = {x for x in outcomes if x.startswith(f"{kind}: ")}
    assert f"{kind}: clean" in found and len(found) > 1, outcomes
  assert sorted(x.name for x in tmp_path.iterdir()) == ["current"]
