"""Tests of methods/associative_embedding/lost_instances.py, by hand."""

from solo_jax.methods.associative_embedding.lost_instances import (
  NO_PIXELS,
  SAME_CENTER,
)
from tests.inspection.conftest import GRID, judge, make_sample


def test_each_way_to_lose_an_instance_without_a_grid():
  sample = make_sample(
    [
      (8, 8, 24, 24),  # fine
      (12, 12, 20, 20),  # the same centre
      (40, 40, 44, 42),  # two map pixels at stride 2
      (40, 8, 56, 24),  # all covered by the two that follow
      (40, 8, 48, 24),
      (48, 8, 56, 24),
    ]
  )
  changed = {
    k: v
    for k, v in GRID.items()
    if k[:7] not in ("network", "loss__s", "loss__c")
  }
  name = "associative_embedding_shapes"
  found = judge(sample, name, decode__min_pixels=3, **changed)
  assert found.rows.tolist() == [
    "",
    SAME_CENTER.name,
    NO_PIXELS.name,
    NO_PIXELS.name,
    "",
    "",
  ]
  assert found.taken == {} and found.num_reduced == {}
  # At stride 2: of the square of 8 x 8 its inner one has 4 x 4; 2 x 1; nothing.
  assert found.sizes["own map pixels"].tolist() == [48, 16, 2, 0, 32, 32]
