"""Tests of solo_jax/methods/solo/perfect_outputs.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.solo.perfect_outputs import pick_maps
from tests.methods.scene import assert_decoder_finds_targets, make_setting


def test_the_decoder_finds_exactly_the_targets():
  assert_decoder_finds_targets("solo_shapes")


def test_one_image_at_a_time():
  method, batch, _ = make_setting("solo_shapes")
  twice = jax.tree.map(lambda x: np.concatenate([x, x]), batch)
  with pytest.raises(ValueError, match="pass one at a time"):
    jax.eval_shape(method.perfect_outputs, twice)


def test_a_cell_picks_its_map():
  maps = jnp.arange(12.0).reshape(2, 2, 3)
  factor = pick_maps(maps, jnp.array([1, -1, 0]))
  masks = jnp.einsum("ge,hwe->ghw", factor.kernel, factor.feature[0])
  np.testing.assert_array_equal(masks[0], maps[1])
  np.testing.assert_array_equal(masks[1], jnp.zeros((2, 3)))
  np.testing.assert_array_equal(masks[2], maps[0])
