"""Tests of solo_jax/losses/instance_sum.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.losses.instance_sum import CHUNK, instance_sum


def loss(pixels, rows, weights):
  """Uses both trees and the weights, not linearly in any."""
  distance = (pixels["x"][None] - rows[0][:, None]) ** 2 * rows[1][:, None]
  value = jnp.sum(jnp.sin(distance) * weights, axis=1)
  return value, jnp.max(weights, axis=1)


def plain(pixels, rows, weights, valid):
  """All instances at once, differentiated by JAX."""
  values, figures = jax.vmap(loss)(pixels, rows, weights)
  return (
    jnp.sum(jnp.where(valid, values, 0.0), axis=1),
    jnp.where(valid, figures, 0.0),
  )


def scene(num_instances, num_pixels=16):
  rng = np.random.default_rng(num_instances)
  pixels = {"x": np.float32(rng.normal(size=(2, num_pixels)))}
  rows = tuple(np.float32(rng.normal(size=(2, 2, num_instances))))
  masks = rng.integers(0, 256, (2, num_instances, num_pixels), dtype=np.uint8)
  return pixels, rows, masks


@pytest.mark.parametrize("num_instances", [1, 5, CHUNK, 2 * CHUNK + 3])
def test_value_and_gradients_equal_the_plain_sum(num_instances):
  pixels, rows, masks = scene(num_instances)
  valid = np.random.default_rng(3).random((2, num_instances)) > 0.3

  def chunked(pixels, rows):
    total, figures = instance_sum(loss, pixels, rows, masks, valid)
    return jnp.sum(total * jnp.array([1.0, -2.0])), figures

  def whole(pixels, rows):
    total, figures = plain(pixels, rows, masks / 255.0, valid)
    return jnp.sum(total * jnp.array([1.0, -2.0])), figures

  results = [
    jax.jit(jax.value_and_grad(f, argnums=(0, 1), has_aux=True))(pixels, rows)
    for f in (chunked, whole)
  ]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    *results,
  )


def test_no_instance_gives_zero_and_zero_gradients():
  pixels, rows, masks = scene(4)
  valid = np.zeros((2, 4), bool)
  (total, figures), gradients = jax.value_and_grad(
    lambda *args: (lambda out: (jnp.sum(out[0]), out[1]))(
      instance_sum(loss, *args, masks, valid)
    ),
    argnums=(0, 1),
    has_aux=True,
  )(pixels, rows)
  assert total == 0
  for leaf in jax.tree.leaves((figures, gradients)):
    np.testing.assert_array_equal(leaf, 0)


def test_what_is_not_valid_may_be_anything():
  """A NaN in a row of padding must reach neither value nor gradient."""
  pixels, rows, masks = scene(3)
  rows[0][:, 2] = np.nan
  valid = np.array([[True, True, False]] * 2)

  def total(pixels, rows):
    return instance_sum(loss, pixels, rows, masks, valid)[0].sum()

  clean = tuple(np.nan_to_num(row) for row in rows)
  np.testing.assert_allclose(total(pixels, rows), total(pixels, clean))
  gradient = jax.grad(total)(pixels, clean)
  assert np.isfinite(gradient["x"]).all()


def test_invalid_chunks_are_not_computed():
  """Past the last valid instance nothing runs, so a bad row does no harm."""
  pixels, rows, masks = scene(2 * CHUNK)
  rows[0][:, CHUNK:] = np.nan
  valid = np.arange(2 * CHUNK)[None] < np.array([[CHUNK], [3]])
  gradient = jax.grad(
    lambda p: instance_sum(loss, p, rows, masks, valid)[0].sum()
  )(pixels)
  assert np.isfinite(gradient["x"]).all()
