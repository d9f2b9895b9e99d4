"""Tests of solo_jax/methods/queryinst/method.py."""

import copy

import pytest

from solo_jax.methods.queryinst.method import problems
from tests.config_test import load


@pytest.mark.parametrize(
  ("section", "field", "value", "message"),
  [
    ("network", "num_mask_stages", 4, "there are 3 stages"),
    ("network", "num_proposals", 37, "needs a square number"),
    ("network", "num_heads", 3, "a multiple of network.num_heads"),
    (
      "decode",
      "max_detections",
      181,
      "proposals and the classes give at most 180",
    ),
    ("transforms", "max_instances", 37, "can be found at once"),
  ],
)
def test_problems_of_queryinst_configs_are_listed(
  section, field, value, message
):
  config = load("queryinst_shapes").to_dict()
  assert problems(config) == []
  config = copy.deepcopy(config)
  config[section][field] = value
  (found,) = problems(config)
  assert message in found
