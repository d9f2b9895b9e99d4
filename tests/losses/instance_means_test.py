"""Tests of solo_jax/losses/instance_means.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.losses.instance_means import (
  instance_means,
  pair_distances,
  squared_distances,
  unpack_masks,
)


@pytest.fixture
def rng():
  return np.random.default_rng(2)


def test_unpack_reads_bits_and_coverage(rng):
  bits = rng.random((2, 3, 16)) > 0.5
  packed = np.packbits(bits, axis=-1)
  np.testing.assert_array_equal(unpack_masks(packed, 16), bits)
  coverage = rng.integers(0, 256, (3, 16), dtype=np.uint8)
  np.testing.assert_allclose(
    unpack_masks(coverage, 16), coverage / 255, rtol=1e-6
  )


def test_unpack_names_the_sizes_it_expects():
  message = "masks have 5 bytes for 16 pixels; expected 16 .* or 2 "
  with pytest.raises(ValueError, match=message):
    unpack_masks(np.zeros((1, 5), np.uint8), 16)


@pytest.mark.parametrize("packed", [False, True])
def test_means_equal_weighted_averages(rng, packed):
  values = np.float32(rng.normal(size=(2, 24, 3)) + 100)
  if packed:
    weights = rng.random((2, 4, 24)) > 0.5
    masks = np.packbits(weights, axis=-1)
  else:
    masks = rng.integers(0, 256, (2, 4, 24), dtype=np.uint8)
    weights = masks / 255
  means, size = instance_means(values, masks)
  np.testing.assert_allclose(size, weights.sum(axis=-1), rtol=1e-5)
  for b in range(2):
    for n in range(4):
      np.testing.assert_allclose(
        means[b, n],
        np.average(np.float64(values[b]), axis=0, weights=weights[b, n]),
        rtol=1e-6,
      )


def test_an_instance_without_pixels_has_mean_zero_and_no_gradient(rng):
  values = jnp.asarray(rng.normal(size=(1, 8, 2)) + 5, jnp.float32)
  masks = np.zeros((1, 2, 1), np.uint8)
  masks[0, 0] = 0b00010000  # one pixel: its own value
  means, size = instance_means(values, masks)
  np.testing.assert_allclose(means[0, 0], values[0, 3], rtol=1e-6)
  np.testing.assert_array_equal(means[0, 1], 0)
  np.testing.assert_array_equal(size[0], [1, 0])
  gradient = jax.grad(lambda v: instance_means(v, masks)[0].sum())(values)
  expected = np.zeros((1, 8, 2))
  expected[0, 3] = 1
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_distances_keep_their_digits_far_from_the_origin(rng):
  embedding = np.float32(rng.normal(size=(30, 3)) + 1000)
  centers = np.float32(rng.normal(size=(4, 3)) + 1000)
  differences = np.float64(centers)[:, None] - np.float64(embedding)[None]
  np.testing.assert_allclose(
    squared_distances(embedding, centers),
    np.sum(differences**2, axis=-1),
    rtol=1e-4,
    atol=1e-4,
  )


def test_pairs_keep_their_digits_beside_a_far_one():
  means = np.float32([[0, 0], [0.3, 0.4], [1e4, 0]])
  distances = pair_distances(means)
  np.testing.assert_allclose(distances[0, 1], 0.25, rtol=1e-6)
  np.testing.assert_array_equal(distances, distances.T)
  np.testing.assert_array_equal(np.diag(distances), 0)


def test_no_array_holds_pixels_instances_and_tags(rng):
  """All is matrix products: N Q T numbers would not fit for real images."""
  n, q, t = 5, 64, 7
  values = jnp.zeros((1, q, t))
  masks = np.zeros((1, n, q), np.uint8)
  centers = jnp.zeros((n, t))

  def total(values):
    means, _ = instance_means(values, masks)
    return jnp.sum(means) + jnp.sum(squared_distances(values[0], centers))

  sizes = []

  def visit(jaxpr):
    for equation in jaxpr.eqns:
      sizes.extend(v.aval.size for v in equation.outvars)
      for inner in jax.core.jaxprs_in_params(equation.params):
        visit(inner)

  visit(jax.make_jaxpr(jax.grad(total))(values).jaxpr)
  assert max(sizes) < n * q * t
