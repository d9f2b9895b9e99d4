"""Tests of solo_jax/losses/instance_sum.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.losses.chunks import CHUNK
from solo_jax.losses.instance_sum import instance_sum
from tests.target_masks import pack_rows


def own(masks):
  """Every row has the mask at its own place. [2, N] int32."""
  return np.broadcast_to(np.arange(masks.data.shape[1]), masks.data.shape[:2])


def loss(pixels, rows, masks):
  """Uses both trees and the masks, not linearly in any."""
  return loss_of_weights(pixels, rows, masks.unpack_flat())


def loss_of_weights(pixels, rows, weights):
  distance = (pixels["x"][None] - rows[0][:, None]) ** 2 * rows[1][:, None]
  value = jnp.sum(jnp.sin(distance) * weights, axis=1)
  return value, jnp.max(weights, axis=1)


def plain(pixels, rows, weights, valid):
  """All instances at once, differentiated by JAX."""
  values, figures = jax.vmap(loss_of_weights)(pixels, rows, weights)
  return (
    jnp.sum(jnp.where(valid, values, 0.0), axis=1),
    jnp.where(valid, figures, 0.0),
  )


def scene(num_instances, num_pixels=16):
  rng = np.random.default_rng(num_instances)
  pixels = {"x": np.float32(rng.normal(size=(2, num_pixels)))}
  rows = tuple(np.float32(rng.normal(size=(2, 2, num_instances))))
  masks = rng.integers(0, 256, (2, num_instances, num_pixels), dtype=np.uint8)
  return pixels, rows, pack_rows(masks)


@pytest.mark.parametrize("num_instances", [1, CHUNK, 2 * CHUNK + 3])
def test_value_and_gradients_equal_the_plain_sum(num_instances):
  pixels, rows, masks = scene(num_instances)
  valid = np.random.default_rng(3).random((2, num_instances)) > 0.3
  valid[0, -1] = True

  def chunked(pixels, rows):
    total, figures = instance_sum(loss, pixels, rows, masks, own(masks), valid)
    return jnp.sum(total * jnp.array([1.0, -2.0])), figures

  def whole(pixels, rows):
    total, figures = plain(pixels, rows, masks.unpack_flat(), valid)
    return jnp.sum(total * jnp.array([1.0, -2.0])), figures

  results = [
    jax.jit(jax.value_and_grad(f, argnums=(0, 1), has_aux=True))(pixels, rows)
    for f in (chunked, whole)
  ]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    *results,
  )


def test_value_and_gradients_equal_loops_and_finite_differences():
  """A pixel in every instance, one-pixel instances, one left out; packed."""
  pixels, rows, _ = scene(3, num_pixels=8)
  bits = np.zeros((2, 3, 8), bool)
  bits[:, 0] = True
  bits[:, 1, 2] = True
  bits[:, 2, 2:5] = True
  valid = np.array([[True, True, True], [True, False, True]])

  def by_loops(x, center, factor):
    total = 0.0
    for b, n, q in np.argwhere(bits & valid[..., None]):
      total += np.sin((x[b, q] - center[b, n]) ** 2 * factor[b, n])
    return total

  @jax.jit
  @functools.partial(jax.value_and_grad, argnums=(0, 1))
  def total(pixels, rows):
    packed = pack_rows(bits)
    total, _ = instance_sum(loss, pixels, rows, packed, own(packed), valid)
    return jnp.sum(total)

  value, (by_pixels, by_rows) = jax.device_get(total(pixels, rows))
  arrays = [np.float64(x) for x in (pixels["x"], *rows)]
  np.testing.assert_allclose(value, by_loops(*arrays), rtol=1e-5)
  for i, gradient in enumerate((by_pixels["x"], *by_rows)):
    for place in np.ndindex(gradient.shape):
      up, down = ([a.copy() for a in arrays] for _ in range(2))
      up[i][place] += 1e-6
      down[i][place] -= 1e-6
      slope = (by_loops(*up) - by_loops(*down)) / 2e-6
      np.testing.assert_allclose(gradient[place], slope, rtol=1e-4, atol=1e-5)


def test_order_and_padding_of_instances_do_not_matter():
  """Spread over three chunks instead of one, and in another order."""
  pixels, rows, masks = scene(6)
  places = np.array([40, 3, 17, 16, 0, 31])  # across the chunks' borders

  def spread(x):
    wide = np.zeros((2, 3 * CHUNK, *x.shape[2:]), x.dtype)
    wide[:, places] = x
    return wide

  def total(pixels, rows, masks, valid):
    total, figures = instance_sum(loss, pixels, rows, masks, own(masks), valid)
    return jnp.sum(total), figures

  total = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
  valid = np.ones((2, 6), bool)
  (value, figures), (by_pixels, by_rows) = total(pixels, rows, masks, valid)
  (wide_value, wide_figures), (wide_by_pixels, wide_by_rows) = total(
    pixels, tuple(map(spread, rows)), jax.tree.map(spread, masks), spread(valid)
  )
  np.testing.assert_allclose(wide_value, value, rtol=1e-5)
  np.testing.assert_allclose(wide_figures, spread(np.array(figures)))
  np.testing.assert_allclose(
    wide_by_pixels["x"], by_pixels["x"], rtol=1e-5, atol=1e-5
  )
  for wide, narrow in zip(wide_by_rows, by_rows, strict=True):
    np.testing.assert_allclose(wide, spread(np.array(narrow)), rtol=1e-5)


def test_per_instance_values_have_no_gradient():
  pixels, rows, masks = scene(2)

  def figures(pixels, rows):
    def figure(pixels, rows, masks):
      value, _ = loss(pixels, rows, masks)
      return value, value

    out = instance_sum(
      figure, pixels, rows, masks, own(masks), np.ones((2, 2), bool)
    )
    return jnp.sum(out[1])

  value, gradients = jax.jit(jax.value_and_grad(figures, argnums=(0, 1)))(
    pixels, rows
  )
  assert value != 0
  for leaf in jax.tree.leaves(gradients):
    np.testing.assert_array_equal(leaf, 0)


def test_no_instance_gives_zero_and_zero_gradients():
  pixels, rows, masks = scene(4)
  valid = np.zeros((2, 4), bool)

  @jax.jit
  @functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
  def total(pixels, rows):
    total, figures = instance_sum(loss, pixels, rows, masks, own(masks), valid)
    return jnp.sum(total), figures

  (total, figures), gradients = total(pixels, rows)
  assert total == 0
  for leaf in jax.tree.leaves((figures, gradients)):
    np.testing.assert_array_equal(leaf, 0)


def test_what_is_not_valid_may_be_anything():
  """A NaN in a row of padding must reach neither value nor figures."""
  pixels, rows, masks = scene(3)
  rows[0][:, 2] = np.nan
  valid = np.array([[True, True, False]] * 2)
  sums = jax.jit(
    lambda rows: instance_sum(loss, pixels, rows, masks, own(masks), valid)
  )
  clean = tuple(np.nan_to_num(row) for row in rows)
  jax.tree.map(np.testing.assert_array_equal, sums(rows), sums(clean))


def test_invalid_chunks_are_not_computed():
  """Past the last valid instance nothing runs, so a bad row does no harm."""
  pixels, rows, masks = scene(2 * CHUNK)
  rows[0][:, CHUNK:] = np.nan
  valid = np.arange(2 * CHUNK)[None] < np.array([[CHUNK], [3]])
  gradient = jax.jit(
    jax.grad(
      lambda p: instance_sum(loss, p, rows, masks, own(masks), valid)[0].sum()
    )
  )(pixels)
  assert np.isfinite(gradient["x"]).all()


def test_rows_may_share_a_target_and_outnumber_the_masks():
  """As many rows of the same masks, copied out, give the same sum."""
  pixels, rows, masks = scene(CHUNK + 2)
  _, _, masks = scene(3)
  instance = np.random.default_rng(4).integers(0, 3, (2, CHUNK + 2))
  valid = np.ones((2, CHUNK + 2), bool)
  copied = jax.tree.map(
    lambda x: np.take_along_axis(x, instance[..., None, None], axis=1), masks
  )
  sums = jax.jit(
    lambda masks, instance: instance_sum(
      loss, pixels, rows, masks, instance, valid
    )
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
    sums(masks, instance),
    sums(copied, own(copied)),
  )


def test_gradients_of_half_precision_maps_are_summed_in_float32():
  """The sum over 33 chunks of 1 / 256 each would stop at 1 in bfloat16."""
  num_rows = 33 * 8 * CHUNK
  pixels = jnp.ones((1, 8), jnp.bfloat16)
  rows = np.full((1, num_rows), 2.0**-12, np.float32)
  masks = pack_rows(np.full((1, 1, 8), 255, np.uint8))

  def linear(pixels, rows, masks):
    del masks
    values = rows * pixels[0].astype(jnp.float32)
    return values, values

  def total(pixels):
    zeros = np.zeros((1, num_rows), int)
    valid = np.ones((1, num_rows), bool)
    return instance_sum(linear, pixels, rows, masks, zeros, valid)[0].sum()

  gradient = jax.jit(jax.grad(total))(pixels)
  assert gradient.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    np.float32(gradient[0]), [num_rows * 2.0**-12] + [0] * 7, rtol=1e-2
  )
