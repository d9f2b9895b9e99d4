"""Tests of solo_jax/losses/instance_means.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxprs import equations

from solo_jax.losses import (
  discriminative,
  instance_means,
  pull_push,
  spatial_embedding,
)
from solo_jax.losses.chunks import CHUNK
from solo_jax.losses.instance_means import (
  pair_distances,
  squared_distances,
)
from solo_jax.losses.instance_sum import instance_sum
from tests.target_masks import pack_rows


@jax.jit
def means_and_sizes(values, masks):
  valid = jnp.ones(masks.data.shape[:2], bool)
  return instance_means.instance_means(values, masks, valid)


@pytest.fixture
def rng():
  return np.random.default_rng(2)


@pytest.mark.parametrize("packed", [False, True])
def test_means_equal_weighted_averages(rng, packed):
  values = np.float32(rng.normal(size=(2, 24, 3)) + 100)
  if packed:
    weights = rng.random((2, 4, 24)) > 0.5
    masks = weights
  else:
    masks = rng.integers(0, 256, (2, 4, 24), dtype=np.uint8)
    weights = masks / 255
  means, size = jax.device_get(means_and_sizes(values, pack_rows(masks)))
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
  bits = np.zeros((1, 2, 8), bool)
  bits[0, 0, 3] = True  # one pixel: its own value
  masks = pack_rows(bits)
  means, size = jax.device_get(means_and_sizes(values, masks))
  np.testing.assert_allclose(means[0, 0], values[0, 3], rtol=1e-6)
  np.testing.assert_array_equal(means[0, 1], 0)
  np.testing.assert_array_equal(size[0], [1, 0])
  gradient = jax.jit(jax.grad(lambda v: means_and_sizes(v, masks)[0].sum()))(
    values
  )
  expected = np.zeros((1, 8, 2))
  expected[0, 3] = 1
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_what_is_not_valid_has_no_mean_and_no_gradient(rng):
  n = 2 * CHUNK + 3
  values = np.float32(rng.normal(size=(2, 24, 3)))
  masks = rng.integers(1, 256, (2, n, 24), dtype=np.uint8)
  valid = np.zeros((2, n), bool)
  valid[0, [0, 5, CHUNK + 1]] = True  # image 1: none at all
  weights = np.float64(masks) / 255 * valid[..., None]
  factors = rng.normal(size=(2, n, 3))

  def total(values):
    means, size = instance_means.instance_means(values, pack_rows(masks), valid)
    return jnp.sum(means * factors), (means, size)

  gradient, (means, size) = jax.jit(jax.grad(total, has_aux=True))(values)
  share = weights / np.maximum(weights.sum(-1, keepdims=True), 1e-9)
  np.testing.assert_allclose(size, weights.sum(-1), rtol=1e-5)
  np.testing.assert_allclose(
    means, np.einsum("bnq,bqt->bnt", share, values), rtol=1e-4, atol=1e-5
  )
  np.testing.assert_allclose(
    gradient, np.einsum("bnq,bnt->bqt", share, factors), rtol=1e-4, atol=1e-6
  )


def test_distances_keep_their_digits_far_from_the_origin(rng):
  embedding = np.float32(rng.normal(size=(30, 3)) + 1000)
  centers = np.float32(rng.normal(size=(4, 3)) + 1000)
  differences = np.float64(centers)[:, None] - np.float64(embedding)[None]
  np.testing.assert_allclose(
    jax.jit(squared_distances)(embedding, centers),
    np.sum(differences**2, axis=-1),
    rtol=1e-4,
    atol=1e-4,
  )


def test_pairs_keep_their_digits_next_to_a_far_one():
  means = np.float32([[0, 0], [0.3, 0.4], [1e4, 0]])
  distances = pair_distances(means)
  np.testing.assert_allclose(distances[0, 1], 0.25, rtol=1e-6)
  np.testing.assert_array_equal(distances, distances.T)
  np.testing.assert_array_equal(np.diag(distances), 0)


def test_means_do_not_depend_on_order_or_padding(rng):
  """Overlapping masks of packed bits; pixels of no instance may be anything."""
  values = np.float32(rng.normal(size=(1, 16, 3)))
  bits = rng.random((1, 4, 16)) > 0.5
  means, size = jax.device_get(means_and_sizes(values, pack_rows(bits)))
  padded = np.concatenate([values, np.full((1, 8, 3), 7, np.float32)], axis=1)
  wide = np.pad(bits[:, ::-1], [(0, 0), (0, 2), (0, 8)])
  wide_means, wide_size = jax.device_get(
    means_and_sizes(padded, pack_rows(wide))
  )
  np.testing.assert_array_equal(
    wide_size, np.pad(size[:, ::-1], [(0, 0), (0, 2)])
  )
  np.testing.assert_allclose(wide_means[:, :4], means[:, ::-1], atol=1e-6)
  np.testing.assert_array_equal(wide_means[:, 4:], 0)


def test_gradients_by_hand():
  """Pixels 1, 2, 4; the middle one is in both instances."""
  values = np.float32([[[1], [2], [4]]])
  masks = pack_rows(
    np.uint8([[[255, 255, 0], [0, 51, 204]]])
  )  # shares 1/5 and 4/5
  by_means = np.float32([[[1], [10]]])
  means, pullback = jax.vjp(lambda v: means_and_sizes(v, masks)[0], values)
  np.testing.assert_allclose(means[0, :, 0], [1.5, 0.4 + 3.2], rtol=1e-6)
  (gradient,) = pullback(by_means)
  np.testing.assert_allclose(gradient[0, :, 0], [0.5, 0.5 + 2, 8], rtol=1e-6)


def test_gradient_of_distances_is_that_of_differences(rng):
  embedding = np.float32(rng.normal(size=(12, 3)) + 10)
  centers = np.float32(rng.normal(size=(4, 3)) + 10)
  by_distances = np.float32(rng.normal(size=(4, 12)))
  by_embedding, by_centers = jax.jit(
    jax.grad(
      lambda e, c: jnp.sum(by_distances * squared_distances(e, c)), (0, 1)
    )
  )(embedding, centers)
  # d|e - c|^2 = 2 (e - c) (de - dc)
  pulls = 2 * by_distances[..., None] * (embedding[None] - centers[:, None])
  np.testing.assert_allclose(by_embedding, pulls.sum(axis=0), atol=1e-4)
  np.testing.assert_allclose(by_centers, -pulls.sum(axis=1), atol=1e-4)


def test_distances_of_equal_points_are_zero_and_not_negative(rng):
  """Rounding must not make a square negative: its root would be NaN."""
  embedding = np.float32(rng.normal(size=(50, 4)) * 30)
  distances = jax.jit(squared_distances)(embedding, embedding)
  assert np.min(distances) >= 0
  np.testing.assert_allclose(np.diag(distances), 0, atol=1e-2)


def pull(pixels, rows, masks):
  weights = masks.unpack_flat()
  return pull_push.pull_loss(pixels[0], rows[0], weights), rows[1]


def variance(pixels, rows, masks):
  weights = masks.unpack_flat()
  loss = discriminative.variance_loss(pixels[0], rows[0], weights, margin=0.5)
  return loss, rows[1]


def spatial(kind):
  def loss(pixels, rows, masks):
    weights = masks.unpack_flat()
    probs = spatial_embedding.membership(pixels[0], *rows)
    loss, iou = spatial_embedding.mask_loss(probs, weights, kind=kind)
    return loss + spatial_embedding.spread_loss(
      pixels[1], rows[1], weights
    ), iou

  return loss


def differences(pixels, rows, masks):
  """What the others must not do."""
  weights = masks.unpack_flat()
  squares = (pixels[0][None] - rows[0][:, None]) ** 2  # [N, Q, T]
  return jnp.sum(weights * jnp.sum(squares, axis=-1), axis=1), rows[1]


def largest_array(function, *args):
  """Size of the largest value in a program, inside its loops too."""
  jaxpr = jax.make_jaxpr(function)(*args).jaxpr
  return max(v.aval.size for e in equations(jaxpr) for v in e.outvars)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
  ("loss", "product"),
  [
    (pull, True),
    (variance, True),
    (spatial("dice"), True),
    (spatial("lovasz"), True),
    (differences, False),
  ],
)
def test_no_array_holds_instances_pixels_and_tags(loss, product, packed):
  """Neither do value and gradient of means and losses of a whole image."""
  n, q, t = CHUNK, 256, 19
  masks = pack_rows(np.zeros((1, n, q), bool if packed else np.uint8))
  valid = np.ones((1, n), bool)

  def total(tags, log_precision):
    centers, _ = instance_means.instance_means(tags, masks, valid)
    radii, _ = instance_means.instance_means(
      log_precision[..., None], masks, valid
    )
    rows = centers, radii[..., 0]
    own = jnp.arange(n)[None]
    total, _ = instance_sum(
      loss, (tags, log_precision), rows, masks, own, valid
    )
    return total.sum()

  largest = largest_array(
    jax.value_and_grad(total, (0, 1)), jnp.zeros((1, q, t)), jnp.zeros((1, q))
  )
  assert (largest < n * q * t) == product
