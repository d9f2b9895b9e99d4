"""Tests of solo_jax/nn/deformable_attention.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.nn.deformable_attention import (
  DeformableAttention,
  deformable_attention,
  reference_points,
  star_offsets,
)


def assert_close(actual, expected, tolerance):
  atol = tolerance * np.abs(expected).max()
  np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@pytest.mark.golden("m2f_msda*.npz")
def test_fixture_values_and_gradients(golden):
  sizes = tuple(map(tuple, golden.config["shapes"]))
  inputs = [
    golden[name].astype("f") for name in ("value", "locations", "attention")
  ]

  @jax.jit
  def both(*inputs):
    output, backward = jax.vjp(
      lambda *x: deformable_attention(*x, sizes), *inputs
    )
    return output, backward(jnp.asarray(golden["cotangent"], jnp.float32))

  output, gradients = both(*inputs)
  assert_close(output, golden["output"], 1e-6)
  for name, gradient in zip(
    ("value", "locations", "attention"), gradients, strict=True
  ):
    assert_close(gradient, golden[f"grad_{name}"], 5e-6)


@pytest.mark.golden("m2f_pixel_decoder*.npz")
def test_fixture_reference_points(golden):
  sizes = tuple(map(tuple, golden.config["sizes"][:0:-1]))
  np.testing.assert_allclose(
    reference_points(sizes), golden["reference_points"], atol=1e-7
  )


def test_derivatives_where_two_pixels_meet_and_at_the_edge():
  # One level of 1 x 4 pixels, values 1, 3, 7, 2: between the first two the
  # sample rises by 2 a pixel, beyond the last it falls to 0 within one.
  values = jnp.asarray([1.0, 3.0, 7.0, 2.0]).reshape(1, 4, 1, 1)

  def sample(x):
    locations = jnp.stack([x / 4, jnp.full_like(x, 0.5)], axis=-1)
    shape = (1, len(x), 1, 1, 1)
    return deformable_attention(
      values,
      locations.reshape(*shape, 2),
      jnp.ones(shape),
      ((1, 4),),
    ).reshape(-1)

  x = jnp.asarray([0.5, 1.0, 1.5, 2.5, 3.75, 4.5, 0.25])
  expected = [1.0, 2.0, 3.0, 7.0, 1.5, 0.0, 0.75]
  slopes = [2.0, 2.0, 4.0, -5.0, -2.0, 0.0, 1.0]
  result, backward = jax.vjp(sample, x)
  np.testing.assert_allclose(result, expected, atol=1e-6)
  np.testing.assert_allclose(
    backward(jnp.ones_like(result))[0], slopes, atol=1e-6
  )


def test_first_offsets_point_around_the_circle():
  offsets = star_offsets(8, 2, 3, None, (8 * 2 * 3 * 2,)).reshape(8, 2, 3, 2)
  np.testing.assert_allclose(offsets[0, 0], [(1, 0), (2, 0), (3, 0)], atol=1e-6)
  # 45 degrees: scaled so that the larger coordinate counts.
  np.testing.assert_allclose(offsets[1, 1], [(1, 1), (2, 2), (3, 3)], atol=1e-6)
  np.testing.assert_allclose(offsets[6, 0, 1], (0, -2), atol=1e-6)


def test_module_at_first_reads_the_star():
  # With the first parameters all 12 weights are equal, and a constant pyramid
  # gives its value wherever all samples are inside.
  layer = DeformableAttention(num_heads=4, dtype=jnp.bfloat16)
  sizes = ((9, 9), (12, 12))
  pyramid = jnp.ones((1, 81 + 144, 8))
  query = jax.random.normal(jax.random.key(0), pyramid.shape)
  apply = functools.partial(
    layer.apply, reference=reference_points(sizes), sizes=sizes
  )
  init = jax.jit(layer.init, static_argnums=4)
  variables = init(
    jax.random.key(1), query, reference_points(sizes), pyramid, sizes
  )
  params = variables["params"]
  for name in ("value", "out"):
    params[name]["kernel"] = jnp.eye(8)
  result = jax.jit(apply)(variables, query, pyramid=pyramid)
  assert result.dtype == jnp.bfloat16
  np.testing.assert_allclose(result[0, 40].astype("f"), 1, rtol=0.01)  # middle
  assert result[0, 0].min() < 0.9  # a corner


def test_levels_of_other_sizes_are_refused():
  with pytest.raises(ValueError, match="pixels"):
    deformable_attention(
      jnp.zeros((1, 5, 1, 2)),
      jnp.zeros((1, 1, 1, 1, 1, 2)),
      jnp.zeros((1, 1, 1, 1, 1)),
      ((2, 2),),
    )
