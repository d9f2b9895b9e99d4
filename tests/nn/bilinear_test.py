"""Tests of solo_jax/nn/bilinear.py."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from solo_jax.nn.bilinear import corners, sample_points


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
  found = jax.jit(sample_points)(feature, points)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_gradient_is_linear_in_the_map():
  feature = jnp.zeros((4, 4, 1))
  points = jnp.asarray([[2.0, 1.5], [2.0, 1.5], [9.0, 9.0]])
  total = jax.jit(jax.grad(lambda x: sample_points(x, points).sum()))
  gradient = total(feature)
  expected = np.zeros((4, 4, 1))
  expected[1, 1:3] = 1.0  # twice a half each
  np.testing.assert_allclose(gradient, expected)


def test_corners_by_hand():
  """A point in the last cell of a map of 2 x 3: two corners are outside."""
  found = corners(jnp.asarray([2.75, 1.0]), (2, 3))
  assert [(int(row), int(column)) for row, column, _ in found] == [
    (0, 2),
    (0, 2),
    (1, 2),
    (1, 2),
  ]
  weights = [float(weight) for *_, weight in found]
  np.testing.assert_allclose(weights, [0.375, 0, 0.375, 0])


def test_points_get_no_gradient():
  feature = jnp.arange(16.0).reshape(4, 4, 1)
  points = jnp.asarray([[1.7, 2.2]])
  total = jax.jit(jax.grad(lambda x: sample_points(feature, x).sum()))
  gradient = total(points)
  np.testing.assert_array_equal(gradient, 0)


def test_gradients_of_many_points_are_added_in_float32():
  """In bfloat16, 256 + 1 is 256: more points of a cell would train nothing."""
  feature = jnp.ones((2, 2, 1), jnp.bfloat16)
  points = jnp.full((1000, 2), 0.5)

  @jax.jit
  @jax.grad
  def gradient(feature):
    return sample_points(feature, points).astype(jnp.float32).sum()

  found = gradient(feature)
  assert found.dtype == jnp.bfloat16
  np.testing.assert_allclose(found[0, 0, 0].astype(np.float32), 1000, rtol=1e-2)
