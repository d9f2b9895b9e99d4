"""Tests of solo_jax/training/initial_weights.py."""

import jax
import numpy as np
import pytest

from solo_jax.errors import UserError
from solo_jax.training.initial_weights import take_fitting


def make_variables(value, num_classes):
  """A backbone of two arrays, a tower and a class head, filled with `value`."""
  shapes = {
    "params": {
      "backbone": {"conv1": {"kernel": (2, 2)}},
      "tower_0": {"conv": {"kernel": (2, 3)}, "norm": {"scale": (3,)}},
      "category": {"kernel": (3, num_classes), "bias": (num_classes,)},
    },
    "batch_stats": {"backbone": {"bn1": {"mean": (2,)}}},
  }
  return jax.tree.map(
    lambda shape: np.full(shape, value, np.float32),
    shapes,
    is_leaf=lambda x: isinstance(x, tuple),
  )


def test_another_class_count_leaves_the_class_head_fresh():
  fresh, saved = make_variables(0, 5), make_variables(1, 80)
  found, lines, modules = take_fitting(fresh, saved, "runs/a")
  assert jax.tree.structure(found) == jax.tree.structure(fresh)
  assert found["params"].pop("category") is not None
  assert all((x == 1).all() for x in jax.tree.leaves(found))
  found, _, _ = take_fitting(fresh, saved, "runs/a")
  assert found["params"]["category"]["kernel"].shape == (3, 5)
  assert not found["params"]["category"]["kernel"].any()
  assert modules == ("category",)
  assert lines == [
    "loaded 4 of 6 arrays from runs/a",
    "  fresh: params/category/bias (5,), saved (80,)",
    "  fresh: params/category/kernel (3, 5), saved (3, 80)",
  ]


def test_a_backbone_alone():
  fresh, saved = make_variables(0, 5), make_variables(1, 5)
  del saved["params"]["tower_0"], saved["params"]["category"]
  found, lines, modules = take_fitting(fresh, saved, "runs/a")
  assert found["params"]["backbone"]["conv1"]["kernel"].all()
  assert found["batch_stats"]["backbone"]["bn1"]["mean"].all()
  assert not found["params"]["tower_0"]["norm"]["scale"].any()
  assert modules == ("category", "tower_0")
  assert lines == [
    "loaded 2 of 6 arrays from runs/a",
    "  fresh: params/category: bias (5,), kernel (3, 5)",
    "  fresh: params/tower_0: conv/kernel (2, 3), norm/scale (3,)",
  ]


def test_what_has_no_place_is_named():
  saved = make_variables(1, 5)
  saved["params"]["extra"] = {"bias": np.ones(7)}
  _, lines, _ = take_fitting(make_variables(0, 5), saved, "runs/a")
  assert lines[1:] == ["  not used: params/extra: bias (7,)"]


def test_no_running_statistics():
  fresh, saved = make_variables(0, 5), make_variables(1, 5)
  fresh["batch_stats"], saved["batch_stats"] = {}, {}
  found, lines, modules = take_fitting(fresh, saved, "runs/a")
  assert not modules
  assert found["batch_stats"] == {} and lines[0].startswith("loaded 5 of 5")


@pytest.mark.parametrize("kind", ["shape", "missing", "more", "none"])
def test_another_backbone_is_refused(kind):
  saved = make_variables(1, 5)
  backbone = saved["params"]["backbone"]
  if kind == "shape":
    backbone["conv1"]["kernel"] = np.zeros((2, 9))
  elif kind == "missing":
    del saved["batch_stats"]["backbone"]["bn1"]
  elif kind == "more":
    backbone["layer1_0"] = {"conv1": {"kernel": np.zeros(1)}}
  else:
    del saved["params"]["backbone"]
  with pytest.raises(UserError, match="start from the backbone of runs/a"):
    take_fitting(make_variables(0, 5), saved, "runs/a")
