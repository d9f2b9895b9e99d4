"""Tests of solo_jax/methods/associative_embedding/suggestion.py, by hand."""

import numpy as np

from solo_jax.methods.associative_embedding.suggestion import (
  suggest_bandwidth,
)
from solo_jax.methods.interface import Examined
from tests.inspection.conftest import sections


def suggest(size, config):
  examined = Examined(
    object_sizes=np.full(100, size),
    num_shown=1,
    is_changed=False,
    shown=list,  # is not asked
  )
  changes = suggest_bandwidth(config, examined)
  return {change.field: change.value for change in changes}


def test_the_unit_follows_the_objects():
  config = sections("associative_embedding_nuclei")
  assert suggest(60.0, config) == {"network.coordinate_unit": 30.0}
  unit = config["network"]["coordinate_unit"]
  assert suggest(3.0 * unit, config) == {}  # a unit of 1.5 times is near enough


def test_the_smallest_group_follows_the_smallest_objects():
  config = sections("associative_embedding_nuclei")
  assert suggest(2.0, config)["decode.min_pixels"] == 1


def test_no_coordinate_unit_is_suggested_for_free_tags():
  config = sections("associative_embedding_shapes", "loss=pull_push")
  assert "network.coordinate_unit" not in suggest(1000.0, config)
