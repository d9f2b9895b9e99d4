"""Tests of solo_jax/methods/yolact/pyramid.py; values: network_test.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.yolact.pyramid import Pyramid

FEATURES = [
  np.random.default_rng(0).normal(size=(1, s, s, 4)).astype("f")
  for s in (9, 5, 3)
]


def run(**options):
  network = Pyramid(channels=6, **options)
  run = jax.jit(network.init_with_output)
  return [np.asarray(x) for x in run(jax.random.key(0), FEATURES)[0]]


def test_levels_and_where_the_relu_is():
  rectified = run(is_rectified=True, source="p5")
  linear = run(is_rectified=False, source="p5")
  assert [x.shape[1] for x in rectified] == [9, 5, 3, 2, 1]
  for x, y in zip(rectified[:3], linear[:3], strict=True):
    np.testing.assert_array_equal(x, np.maximum(y, 0))
  assert (rectified[3] < 0).any()  # P6 has none
  assert np.abs(rectified[3] - linear[3]).max() > 0  # and reads what P5 is


def test_p6_of_the_backbone():
  features = [jnp.zeros_like(x) for x in FEATURES[:2]] + [FEATURES[2]]
  network = Pyramid(channels=6, is_rectified=False, source="c5")
  variables = jax.eval_shape(network.init, jax.random.key(0), features)
  kernel = variables["params"]["output_6"]["kernel"]
  assert kernel.shape == (3, 3, 4, 6)  # C5's channels
  with pytest.raises(ValueError, match="source must be in"):
    run(is_rectified=False, source="c4")
