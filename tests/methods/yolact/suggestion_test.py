"""Tests of solo_jax/methods/yolact/suggestion.py."""

import numpy as np
import pytest

from solo_jax.methods.interface import Examined
from solo_jax.methods.yolact.suggestion import suggest

PUBLISHED = ((24.0,), (48.0,), (96.0,), (192.0,), (384.0,))


def examine(sizes):
  return Examined(
    object_sizes=np.array(sizes, float),
    num_shown=0,
    is_changed=False,
    shown=lambda: (),
  )


def config(sizes=PUBLISHED):
  return dict(network=dict(prior_sizes=sizes))


@pytest.mark.parametrize("sizes", [[], [17, 24, 60, 200, 540]])
def test_nothing_where_priors_reach_the_objects(sizes):
  assert suggest(config(), examine(sizes)) == []


def test_small_objects_get_small_priors():
  """All of 10 px: P3 from 10 to 40 px, then up to five strides per level."""
  (change,) = suggest(config(), examine([10] * 20))
  assert change.field == "network.prior_sizes"
  assert change.value == ((20.0,), (57.0,), (113.0,), (226.0,), (453.0,))
  assert "0% of the objects" in change.reason
  again = suggest(config(((10.0, 20.0), *[(57.0, 70.0)] * 4)), examine([10]))
  assert again == []


def test_as_many_sizes_as_before():
  (change,) = suggest(config(((24.0, 30.0),) * 5), examine([10, 12, 200]))
  assert [len(level) for level in change.value] == [2] * 5
  assert list(change.value) == sorted(change.value)
