"""Tests of solo_jax/methods/mask2former/targets.py."""

import types as python_types

import jax.numpy as jnp
import numpy as np

from solo_jax import types
from solo_jax.methods.mask2former.targets import make_targets


def make_batch(valid, image_valid):
  valid = jnp.asarray(valid, bool)
  rows = jnp.arange(valid.size, dtype=jnp.uint8).reshape(valid.shape)
  return python_types.SimpleNamespace(
    masks=types.PackedMasks(
      data=rows[..., None, None], encoding="coverage", stride=4
    ),
    labels=rows.astype(jnp.int32),
    valid=valid,
    image_valid=jnp.asarray(image_valid, bool),
  )


def test_instances_move_up_where_there_are_more_rows_than_queries():
  batch = make_batch([[0, 1, 0, 1, 1], [1, 1, 1, 1, 0]], [True, True])
  targets = make_targets(batch, 3)
  np.testing.assert_array_equal(targets.labels, [[1, 3, 4], [5, 6, 7]])
  np.testing.assert_array_equal(targets.masks.data[..., 0, 0], targets.labels)
  np.testing.assert_array_equal(targets.valid, [[1, 1, 1], [1, 1, 1]])
  np.testing.assert_array_equal(targets.num_dropped, [0, 1])
  assert targets.masks.stride == 4


def test_images_that_do_not_count_have_no_instances():
  targets = make_targets(make_batch([[1, 1], [1, 0]], [True, False]), 2)
  np.testing.assert_array_equal(targets.valid, [[1, 1], [0, 0]])
  np.testing.assert_array_equal(targets.num_dropped, [0, 0])
