"""Tests of solo_jax/methods/regions/suggestion.py."""

import numpy as np

from solo_jax.methods.interface import Examined
from solo_jax.methods.regions.suggestion import suggest

CONFIG = dict(network=dict(anchor_sizes=(32, 64, 128, 256, 512)))


def examined(sizes):
  return Examined(
    object_sizes=np.asarray(sizes, float),
    num_shown=0,
    is_changed=False,
    shown=lambda: [],
  )


def test_objects_within_reach_need_no_change():
  assert suggest(CONFIG, examined([23, 100, 700])) == []
  assert suggest(CONFIG, examined([])) == []
  # 1 of 25 is too small for an anchor.
  assert suggest(CONFIG, examined([10] + [50] * 24)) == []


def test_small_objects_get_small_anchors():
  sizes = np.linspace(10, 10 * 3**0.5, 101)  # quantiles by hand below
  (change,) = suggest(CONFIG, examined(sizes))
  assert change.field == "network.anchor_sizes"
  low = 10 + 0.05 * 10 * (3**0.5 - 1)
  # Their ratio is below 1.25 ** 4: the smallest step is taken.
  assert change.value == tuple(round(low * 1.25**i) for i in range(5))
  assert change.reason.startswith("0% of the objects are within")


def test_a_wide_range_takes_the_largest_step():
  sizes = [2.0] * 50 + [500.0] * 50
  (change,) = suggest(CONFIG, examined(sizes))
  assert change.value == (4, 8, 16, 32, 64)
  assert "50% of the objects" in change.reason
