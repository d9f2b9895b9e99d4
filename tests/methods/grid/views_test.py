"""Tests of solo_jax/methods/grid/views.py, by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.methods.grid.views import FILL, LINE, draw_cells

draw = jax.jit(draw_cells)
BLUE = jnp.array([[0.0, 0.0, 1.0]])


def test_a_cell_is_filled_and_outlined():
  image = jnp.zeros((1, 16, 16, 3), jnp.uint8)
  owner = jnp.array([[[-1, 0], [-1, -1]]])  # the upper right of 2 x 2
  picture = np.asarray(draw(image, (owner,), BLUE))[0]
  np.testing.assert_allclose(picture[3, 12], [0, 0, FILL])
  for y, x in ((0, 12), (7, 12), (3, 8), (3, 15)):
    np.testing.assert_allclose(picture[y, x], [LINE] * 3)
  assert not picture[8:].any() and not picture[:, :8].any()


def test_small_cells_have_no_outline():
  image = jnp.full((1, 4, 4, 3), 255, jnp.uint8)
  owner = jnp.array([[[0, -1], [-1, -1]]])
  picture = np.asarray(draw(image, (owner,), BLUE))[0]
  np.testing.assert_allclose(picture[:2, :2, 0], 1 - FILL)
  np.testing.assert_allclose(picture[2:], 1.0)
