"""Tests of solo_jax/methods/regions/points.py."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from solo_jax.methods.regions.points import (
  grid_points,
  points_in_boxes,
  sample_points,
)


def test_equals_scipy_and_fades_to_zero_outside():
  rng = np.random.default_rng(0)
  feature = rng.normal(size=(6, 9, 2)).astype(np.float32)
  points = rng.uniform(-2, 11, (60, 2)).astype(np.float32)
  padded = np.pad(feature, ((3, 9), (3, 9), (0, 0)))
  expected = np.stack(
    [
      ndimage.map_coordinates(
        padded[..., c], points.T[::-1].astype(np.float64) + 2.5, order=1
      )
      for c in range(2)
    ],
    axis=-1,
  )
  found = sample_points(jnp.asarray(feature), jnp.asarray(points))
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_gradient_is_linear_in_the_map():
  feature = jnp.zeros((4, 4, 1))
  points = jnp.asarray([[2.0, 1.5], [2.0, 1.5], [9.0, 9.0]])
  gradient = jax.grad(lambda x: sample_points(x, points).sum())(feature)
  expected = np.zeros((4, 4, 1))
  expected[1, 1:3] = 1.0  # twice a half each
  np.testing.assert_allclose(gradient, expected)


def test_cells_of_a_box():
  points = grid_points(2)
  np.testing.assert_allclose(
    points, [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
  )
  box = jnp.asarray([[10.0, 20.0, 18.0, 60.0]])
  np.testing.assert_allclose(
    points_in_boxes(box, points[None])[0, 1], [16.0, 30.0]
  )
