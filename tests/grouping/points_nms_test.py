"""Tests of solo_jax/grouping/points_nms.py."""

import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.grouping.points_nms import points_nms


def test_points_below_a_neighbour_are_suppressed():
  grid = jnp.array([[1.0, 3.0, 3.0], [2.0, 2.0, 4.0], [5.0, 0.0, 4.0]])
  # 2 at (1, 0) beats 1 above; 2 at (1, 1) loses to 3 above; ties stay.
  expected = [[1.0, 3.0, 3.0], [2.0, 0.0, 4.0], [5.0, 0.0, 4.0]]
  np.testing.assert_array_equal(points_nms(grid[..., None])[..., 0], expected)


def test_classes_do_not_compete():
  grid = jnp.array([[[0.9, 0.0], [0.0, 0.4]]])
  np.testing.assert_array_equal(points_nms(grid), grid)


@pytest.mark.golden("matrix_nms*.npz")
def test_fixture(golden):
  result = points_nms(golden["points_nms_in"].transpose(0, 2, 3, 1))
  np.testing.assert_array_equal(
    result, golden["points_nms_out"].transpose(0, 2, 3, 1)
  )


@pytest.mark.golden("head_solov2*.npz")
def test_head_fixture(golden):
  for logits, expected in zip(
    golden.levels("cls_logit"), golden.levels("cls_score_nms"), strict=True
  ):
    probs = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(points_nms(jnp.asarray(probs)), expected, 1e-4)
