"""Tests of solo_jax/methods/point_rend/subdivision.py."""

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.methods.point_rend.subdivision import (
  Subdivision,
  choose_points,
  subdivide,
)
from solo_jax.nn.resize import resize_bilinear


def edge(points):
  """Logits of a half plane whose edge is at x = 0.3."""
  return 40 * (points[..., 0] - 0.3)


def coarse(side=4):
  at = (np.arange(side) + 0.5) / side
  return jnp.asarray(np.tile(40 * (at - 0.3), (1, side, 1)), jnp.float32)


def run(logits, read, subdivision):
  """Compiled whole; `read` runs once, on abstract points."""
  return jax.jit(lambda x: subdivide(x, read, subdivision))(logits)


def test_computed_cells_are_exact_and_the_rest_enlarged():
  calls = []

  def read(points):
    calls.append(points.shape)
    return edge(points)

  found = run(coarse(), read, Subdivision(steps=2, num_points=32))
  assert found.shape == (1, 16, 16)
  assert calls == [(1, 32, 2), (1, 32, 2)]
  at = (np.arange(16) + 0.5) / 16
  # The two columns next to the edge, 16 cells each.
  np.testing.assert_allclose(
    found[0][:, 4:6], np.tile(40 * (at[4:6] - 0.3), (16, 1)), atol=1e-4
  )


def test_a_step_that_the_next_one_repeats_only_enlarges():
  calls = []

  def read(points):
    calls.append(points.shape[1])
    return jnp.zeros(points.shape[:2])

  # 8 x 8 is skipped as 256 cells of 16 x 16 are computed anyway.
  found = run(coarse(), read, Subdivision(steps=2, num_points=256))
  assert calls == [256]
  assert not np.asarray(found).any()
  # The last step is never skipped.
  run(coarse(), read, Subdivision(steps=1, num_points=1024))
  assert calls == [256, 64]


def test_no_steps_and_no_masks():
  nothing = Subdivision(steps=0, num_points=9)
  np.testing.assert_array_equal(run(coarse(), edge, nothing), coarse())
  found = run(coarse()[:0], edge, Subdivision(steps=1, num_points=4))
  assert found.shape == (0, 8, 8)


def test_a_wrong_cell_far_from_the_edge_stays():
  # Certain cells are not computed, whatever the points say.
  found = run(
    coarse() + 100,
    lambda points: jnp.full(points.shape[:2], -1.0),
    Subdivision(steps=1, num_points=3),
  )
  enlarged = jax.jit(resize_bilinear, static_argnums=1)(
    (coarse() + 100)[..., None], (8, 8)
  )[..., 0]
  assert (np.asarray(found) == -1).sum() == 3
  np.testing.assert_array_equal(
    np.asarray(found)[0][:, 3:], np.asarray(enlarged)[0][:, 3:]
  )


def test_least_certain_candidates_are_chosen():
  candidates = jnp.asarray([[[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]]])
  random = jnp.asarray([[[0.9, 0.9]]])
  found = choose_points(candidates, jnp.asarray([[-5.0, 0.0, -1.0]]), random, 3)
  np.testing.assert_allclose(found[0, :, 0], [0.2, 0.3, 0.9])
