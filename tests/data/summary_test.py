"""Tests of solo_jax/data/summary.py."""

import io

import rich.console

from solo_jax.data.coco_panoptic import CocoPanoptic
from solo_jax.data.panoptic_files import find_coco
from solo_jax.data.summary import list_findings, print_summary
from tests.panoptic_source import write_panoptic


def test_findings_of_every_kind_and_of_older_datasets():
  kinds = dict(
    problems=[["a broken polygon", 2, "a.json: image 3"]],
    repairs=[["a wrong area", 1500, "a.json: image 4"]],
    notes=[],
  )
  metadata = dict(num_problems=2, kinds=kinds, problems=["x", "y"])
  lines = list_findings(metadata)
  assert lines[0] == "2 problems, skipped"
  assert "a broken polygon" in lines[1]
  assert any(line == "1,500 repaired" for line in lines)
  assert not any("worth checking" in line for line in lines)
  del metadata["kinds"]
  assert list_findings(metadata)[1:] == ["  x", "  y"]


def test_things_and_stuff_are_counted(tmp_path):
  source = write_panoptic(tmp_path / "coco")
  path = CocoPanoptic(
    data_dir=str(tmp_path), splits=find_coco(str(source))
  ).prepare()
  file = io.StringIO()
  print_summary(path, rich.console.Console(file=file, width=200))
  text = file.getvalue()
  assert "2 classes: person, grass" in text
  assert "Of them 1 of things, 1 of stuff" in text
