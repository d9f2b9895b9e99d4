"""Tests of benchmarks/methods_table.py: what it makes without training."""

import pathlib
import runpy
import sys

import pytest

from solo_jax import published
from solo_jax.methods.table import METHODS
from solo_jax.weights import load_config

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    return runpy.run_path(str(ROOT / "benchmarks" / "methods_table.py"))


def test_every_method_has_a_row_and_a_place_in_the_page(benchmark):
  rows = benchmark["ROWS"]
  assert len({row.name for row in rows}) == len(rows)
  configs = {row.name: load_config(row.config) for row in rows}
  assert {config.method for config in configs.values()} == set(METHODS)
  for row in rows:
    if row.published:
      found = load_config(published.find(row.published).config)
      assert found.method == configs[row.name].method
    if row.nuclei:
      assert load_config(row.nuclei).method == configs[row.name].method
  page = (ROOT / "docs" / "methods.md").read_text()
  assert "\n| 42 |\n" in benchmark["insert"](page, "| 42 |")


def test_insert_replaces_what_is_there(benchmark):
  start, end = benchmark["START"], benchmark["END"]
  page = f"a\n{start}\n| old |\n{end}\nb"
  new = benchmark["insert"](page, "| new |")
  assert new == f"a\n{start}\n\n| new |\n\n{end}\nb"
  assert benchmark["insert"](new, "| new |") == new
  with pytest.raises(ValueError, match="found 0"):
    benchmark["insert"]("no markers", "| new |")


def test_budget_in_steps(benchmark):
  assert benchmark["count_steps"](5, 100) == 3000
  assert benchmark["count_steps"](0.5, 333) == 90
  assert benchmark["count_steps"](0.001, 1e3) == 10
