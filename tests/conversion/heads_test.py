"""Tests of solo_jax/conversion/heads.py."""

import re

import numpy as np

from solo_jax.conversion.families import FAMILIES
from solo_jax.conversion.heads import HEADS


def test_every_method_of_a_family_has_a_head():
  methods = {method for family in FAMILIES for method in family.rules}
  assert methods - {None} <= set(HEADS)


def test_a_light_head_is_recognised_by_its_channels():
  kernel = {"params/kernel/bias": np.zeros(128)}
  assert HEADS["solov2"].is_light(kernel)
  assert not HEADS["solov2"].is_light({"params/kernel/bias": np.zeros(256)})
  assert not HEADS["solo"].is_light(kernel)


def test_a_query_marks_mask2former_alone():
  path = "params/decoder/query_position_embedding"
  found = {name for name, head in HEADS.items() if re.match(head.mark, path)}
  assert found == {"mask2former"}
  assert HEADS["mask2former"].tasks == {133: "panoptic"}
