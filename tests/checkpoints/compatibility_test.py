"""Tests of solo_jax/checkpoints/compatibility.py."""

import pathlib
import runpy

import numpy as np
import pytest

from solo_jax.checkpoints.compatibility import (
  CHANGEABLE,
  check_same_run,
  check_tree,
  flatten,
)
from solo_jax.errors import UserError


def test_changeable_fields_exist():
  """A renamed field of the configs must not become unchangeable."""
  path = pathlib.Path(__file__).parents[2] / "configs" / "solov2_shapes.py"
  config = runpy.run_path(str(path))["get_config"]("").to_dict()
  for key in CHANGEABLE:
    value = config
    for name in key.split("."):
      value = value[name]


def test_new_and_lost_fields_are_named():
  old = {"config": {"loss": {"a": 1, "b": 2}}}
  new = {"config": {"loss": {"a": 1, "c": 3}}}
  with pytest.raises(UserError) as error:
    check_same_run(old, new, "here")
  assert "loss.b: saved 2, now (absent)" in str(error.value)
  assert "loss.c: saved (absent), now 3" in str(error.value)
  check_same_run(old, old, "here")


def test_tree_of_another_network():
  """All differences are reported at once."""
  backbone = {"conv1": {"kernel": np.zeros((3, 3, 3, 4))}}
  head = {"kernel": np.zeros((4, 1)), "bias": np.zeros(1)}
  expected = {"params": {"backbone": backbone, "head": head}}
  head = {"kernel": np.zeros((5, 1)), "scale": 1}
  other = {"params": {"backbone": backbone, "head": head}}
  with pytest.raises(UserError, match="here: its arrays do not fit") as error:
    check_tree(other, expected, "here")
  message = str(error.value)
  assert "params.head.bias: missing" in message
  assert "params.head.scale: unexpected" in message
  assert "params.head.kernel: shape (5, 1), expected (4, 1)" in message
  check_tree(expected, expected, "here")


def test_flat_names_without_what_is_none():
  tree = {"params": {"head": {"bias": 1, "scale": None}}, "step": 2}
  assert flatten(tree) == {"params.head.bias": 1, "step": 2}
