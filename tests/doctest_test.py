"""Runs the examples in docstrings."""

import doctest
import importlib
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "solo_jax"
MODULES = [
  ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
  for file in sorted(PACKAGE.rglob("*.py"))
  if ">>> " in file.read_text()
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_right(name):
  failed, attempted = doctest.testmod(importlib.import_module(name))
  assert attempted and not failed
