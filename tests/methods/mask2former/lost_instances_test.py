"""Tests of solo_jax/methods/mask2former/lost_instances.py."""

import types as python_types

import jax.numpy as jnp
import numpy as np

from solo_jax import types
from solo_jax.methods.mask2former.lost_instances import (
  NO_CELL,
  NO_QUERY,
  lost_instances,
)


def test_instances_without_a_query_or_a_cell_are_lost():
  masks = np.zeros((1, 5, 8, 8), bool)
  masks[0, :, :4, :4] = True
  masks[0, 1] = False
  masks[0, 1, 2:5, 2:5] = True  # 4 pixels of one cell, and 5 of three others
  valid = jnp.asarray([[True, True, False, True, True]])
  batch = python_types.SimpleNamespace(
    masks=types.PackedMasks(
      data=jnp.asarray(np.packbits(masks, axis=-1)), encoding="bits", stride=1
    ),
    valid=valid,
  )
  lost = lost_instances(batch, num_queries=3)
  who = dict(zip(lost.ways, np.asarray(lost.is_lost).tolist(), strict=True))
  assert who[NO_QUERY] == [False, False, False, False, True]
  assert who[NO_CELL] == [False, True, False, False, False]
  np.testing.assert_array_equal(lost.taken[0], valid[0])
  assert lost.sizes["mask cells"].tolist() == [1, 0, 1, 1, 1]
