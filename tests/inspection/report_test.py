"""Tests of solo_jax/inspection/report.py."""

import dataclasses
import io
import json

import numpy as np
from rich.console import Console

from solo_jax.inspection import report
from solo_jax.inspection.cost import Cost
from solo_jax.inspection.selection import Selection
from solo_jax.inspection.statistics import examine
from solo_jax.methods.grid.lost_instances import CELLS, NO_CELL, NO_LEVEL
from tests.inspection.conftest import (
  SampleRecords,
  make_sample,
  make_statistics,
  sections,
)

COST = Cost(
  batch_size=8,
  image_size=(256, 160),
  num_steps=100,
  num_images=40,
  predicted_pixels=4096,
)
TWICE = dataclasses.replace(COST, batch_size=4, image_size=(512, 416))


def text(table, width=160):
  console = Console(file=io.StringIO(), width=width, markup=False)
  table.print(console)
  return console.file.getvalue()


def test_counts_and_classes():
  samples = [make_sample([(0, 0, 9, 9)] * 3, labels=[1, 1, 0]), make_sample([])]
  splits = [examine(Selection(SampleRecords(samples), 0))]
  counts = report.counts_table(splits).markdown()
  assert "| instances | 3 |" in counts
  assert "| images without instances | 1 |" in counts
  classes = report.classes_table(splits).markdown().splitlines()
  assert classes[-2:] == ["| other | 2 | 1 |", "| thing | 1 | 1 |"]
  assert "9    9" in text(report.sizes_table(splits))


def test_lost_instances_are_shares():
  column = dict(
    frames=3,
    instances=200,
    lost={NO_LEVEL: 1, NO_CELL: 0},
    reduced={"some cells shared": 10},
    most_instances=90,
    most_taken={CELLS: 120},
    sizes={"own map pixels": np.arange(101)},
  )
  table = report.fates_table({"training": column}).markdown()
  assert "| no level | 1 (0.5 %) |" in table
  assert "no level: size outside every range" in table
  assert "| no cell left | 0 |" in table and "too coarse" not in table
  assert "not lost) | 10 (5 %) |" in table
  assert "| most cells per input | 120 |" in table
  assert "| own map pixels: least, 5 %, median | 0, 5, 50 |" in table


def test_no_heading_is_cut_off_at_80_columns():
  judged = {
    f"{what}, {name}": dict(
      frames=48,
      instances=1700,
      lost={NO_LEVEL: 100, NO_CELL: 90},
      reduced={"some cells shared": 160},
      most_instances=26,
      most_taken={CELLS: 47},
      sizes={"own map pixels": np.zeros(0)},
    )
    for what in ("training", "evaluation")
    for name in ("this config", "suggestion")
  }
  splits = [
    dataclasses.replace(make_statistics(), split=split)
    for split in ("train[:1000]", "validation[100:200]")
  ]
  change = dict(was=((1, 40), (20, 80)), suggested=((1, 9), (5, 9)), why="it")
  for table in (
    report.fates_table(judged),
    report.sizes_table(splits),
    report.classes_table(splits),
    report.counts_table(splits),
    report.changes_table(
      {"loss.scale_ranges": change, "optimizer.reference_batch_size": change},
      sections("solov2_coco"),
      (COST, COST),
    ),
  ):
    printed = text(table, 80)
    assert "\N{HORIZONTAL ELLIPSIS}" not in printed
    for word in " ".join(table.header).split():
      assert word in printed
  table = report.fates_table(judged).markdown()
  assert "| without a cell (no level, no cell left) | 190 (11.2 %) |" in table


def test_repeated_reasons_are_abbreviated():
  changes = {
    f"network.{i}": dict(was=1, suggested=2, why=why)
    for i, why in enumerate(("small", "small", "small", "large"))
  }
  table = report.changes_table(changes, sections("solov2_coco"), (COST, TWICE))
  assert [row[2] for row in table.rows] == [
    "small",
    "the same",
    "the same",
    "large",
  ]
  assert (
    "a training step sees 2.6 x the pixels (4 x 512 x 416, was 8 x 256 x 160)"
    in table.note
  )
  assert "2.6 x the pixels (100 steps x 4 images, 10 epochs, " in table.note
  assert "was 100 steps x 8 images, 20 epochs)" in table.note


def test_the_linear_rule_is_reported():
  config = sections("solov2_coco")
  changes = {"training.batch_size": dict(was=16, suggested=16, why="because")}
  table = report.changes_table(changes, config, (COST, COST))
  assert "0.01 x 16 / 16 = 0.01" in table.note
  assert "a training step sees as many pixels" in table.note
  assert "| training.batch_size | 16 -> 16 | because |" in table.markdown()


def test_long_tables_are_cut_in_the_terminal_only():
  table = report.Table(
    title="T", header=["a"], rows=[[str(i)] for i in range(40)]
  )
  assert "15 more" in text(table) and "| 39 |" in table.markdown()
  lines = report.findings_table(["first | one", "[red]second"])
  assert "- [red]second" in text(lines) and "- first | one" in lines.markdown()
  assert "none" in text(report.findings_table([]))


def test_json_of_arrays_and_statistics():
  records = SampleRecords([make_sample([(0, 0, 9, 9)])])
  content = report.to_json(
    dict(split=examine(Selection(records, 0)), values=np.arange(101), none=None)
  )
  content = json.loads(json.dumps(content))
  assert content["values"]["25"] == 25.0 and content["none"] is None
  assert content["split"]["num_instances"] == 1
  assert content["split"]["object_sizes"]["50"] == 9.0
  assert "digests" not in content["split"]
  assert report.to_json({"lost": {NO_LEVEL: 1}}) == {"lost": {"no level": 1}}
