"""Tests of solo_jax/methods/queries/points.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from solo_jax import types
from solo_jax.methods.queries.points import (
  least,
  random_points,
  read_mask_points,
  read_points,
  read_shared_points,
  uncertain_points,
  uncertain_points_of_valid,
)


def read_by_scipy(image, points):
  """Bilinear reads of an image with a margin of zeros around it."""
  height, width = image.shape
  x = points[:, 0] * width - 0.5
  y = points[:, 1] * height - 0.5
  return scipy.ndimage.map_coordinates(
    np.pad(np.asarray(image, np.float64), 2), [y + 2, x + 2], order=1
  )


@pytest.fixture(scope="module")
def points():
  # Some at the very corners, some in the last half pixel.
  rng = np.random.default_rng(0)
  points = rng.random((2, 3, 40, 2)).astype("f")
  points[..., 0, :], points[..., 1, :] = 0, 1
  return points


def test_reads_of_maps_with_an_index(points):
  rng = np.random.default_rng(1)
  maps = rng.standard_normal((5, 6, 9)).astype("f")
  index = np.asarray([[4, 0, 2], [2, 2, 1]])
  result = jax.jit(read_points)(maps, index, points)
  for b, n in np.ndindex(2, 3):
    np.testing.assert_allclose(
      result[b, n], read_by_scipy(maps[index[b, n]], points[b, n]), atol=1e-5
    )


def test_shared_reads_are_reads_of_every_map(points):
  rng = np.random.default_rng(1)
  maps = rng.standard_normal((2, 4, 6, 9)).astype("f")
  result = jax.jit(jax.vmap(read_shared_points))(maps, points[:, 0])
  for b, q in np.ndindex(2, 4):
    np.testing.assert_allclose(
      result[b, :, q], read_by_scipy(maps[b, q], points[b, 0]), atol=1e-5
    )


@pytest.mark.parametrize("encoding", ["bits", "coverage"])
@pytest.mark.parametrize("is_shared", [False, True])
def test_reads_of_mask_targets(points, encoding, is_shared):
  rng = np.random.default_rng(2)
  coverage = rng.integers(0, 256, (2, 3, 6, 16)).astype(np.uint8)
  data = coverage
  if encoding == "bits":
    coverage = np.where(coverage > 127, 255, 0)
    data = np.packbits(coverage > 0, axis=-1)
  masks = types.PackedMasks(data=jnp.asarray(data), encoding=encoding, stride=1)
  where = points[:, :1] if is_shared else points
  result = jax.jit(read_mask_points)(masks, where)
  for b, n in np.ndindex(2, 3):
    expected = read_by_scipy(
      coverage[b, n] / 255, where[b, min(n, len(where[b]) - 1)]
    )
    np.testing.assert_allclose(result[b, n], expected, atol=1e-5)


def test_the_gradient_of_reads_is_their_weights(points):
  # A sum of reads is linear: its gradient times the map is the sum.
  rng = np.random.default_rng(1)
  maps = jnp.asarray(rng.standard_normal((2, 6, 9)), jnp.float32)
  index = jnp.asarray([1, 0, 1])
  total, gradient = jax.jit(
    jax.value_and_grad(
      lambda maps: jnp.sum(read_points(maps, index, points[0]))
    )
  )(maps)
  gradient = np.asarray(gradient)
  np.testing.assert_allclose(np.sum(gradient * maps), total, rtol=1e-4)
  assert (gradient >= 0).all()


def test_the_least_sure_candidates_are_kept():
  logits = jnp.asarray([[[-9.0, -0.5, 0.1, 4.0]]])  # centres at 1/8, 3/8, ...
  x = jnp.asarray([0.875, 0.625, 0.125, 0.375])
  candidates = jnp.stack([x, jnp.full_like(x, 0.5)], axis=-1)[None]
  others = jnp.asarray([[[0.125, 0.5]]])
  choose = jax.jit(uncertain_points, static_argnums=4)
  chosen = choose(logits, jnp.zeros(1, int), candidates, others, 3)
  np.testing.assert_allclose(chosen[0, :, 0], [0.625, 0.375, 0.125])


def test_points_of_valid_groups_are_those_of_each():
  rng = np.random.default_rng(2)
  maps = jnp.asarray(rng.standard_normal((3, 4, 5)), jnp.float32)
  number = 20  # more than a chunk
  index = jnp.asarray(rng.integers(0, 3, number))
  candidates, others = (
    jnp.asarray(rng.random((number, n, 2)), jnp.float32) for n in (9, 2)
  )
  choose = jax.jit(uncertain_points, static_argnums=4)
  expected = np.asarray(choose(maps, index, candidates, others, 6))
  find = jax.jit(
    lambda *arrays: uncertain_points_of_valid(
      *arrays, lambda groups: (candidates[groups], others[groups]), 6
    )
  )
  for share in (0.0, 0.3, 1.0):
    valid = rng.random(number) < share
    found = np.asarray(find(maps, index, valid))
    np.testing.assert_array_equal(found[valid], expected[valid])
    assert not found[~valid].any()


def test_the_least_are_those_of_a_sort():
  rng = np.random.default_rng(0)
  values = rng.exponential(size=(2, 3, 200)).astype("f") ** 9  # many sizes
  values[0, 0, :150] = 0
  values[0, 1] = 1e30
  find = jax.jit(least, static_argnums=1)
  for count in (1, 60, 200):
    found = np.asarray(find(values, count))
    for index in np.ndindex(2, 3):
      assert (np.diff(found[index]) > 0).all()
      np.testing.assert_array_equal(
        np.sort(values[index][found[index]]), np.sort(values[index])[:count]
      )
  found = np.asarray(find(values, 60))
  np.testing.assert_array_equal(found[0, :2], [np.arange(60)] * 2)


def test_random_points_are_uniform_and_their_coordinates_independent():
  draw = jax.jit(random_points, static_argnums=1)
  points = np.asarray(draw(jax.random.key(0), (2, 20_000)))
  assert points.shape == (2, 20_000, 2)
  assert 0 < points.min() < 1e-3 and 1 - 1e-3 < points.max() < 1
  counts, *_ = np.histogram2d(*points[0].T, bins=4, range=[(0, 1), (0, 1)])
  # 1250 in each of 16 bins, with a standard deviation of 34.
  assert np.abs(counts - 1250).max() < 5 * 34
  assert not np.array_equal(points[0], points[1])
