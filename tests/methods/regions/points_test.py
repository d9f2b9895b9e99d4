"""Tests of solo_jax/methods/regions/points.py."""

import jax.numpy as jnp
import numpy as np

from solo_jax.methods.regions.points import grid_points, points_in_boxes


def test_cells_of_a_box():
  points = grid_points(2, 2)
  np.testing.assert_allclose(
    points, [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
  )
  box = jnp.asarray([[10.0, 20.0, 18.0, 60.0]])
  np.testing.assert_allclose(
    points_in_boxes(box, points[None])[0, 1], [16.0, 30.0]
  )
