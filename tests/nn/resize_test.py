"""Tests of solo_jax/nn/resize.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.nn import resize
from solo_jax.nn.resize import (
  interpolation_matrix,
  resize_bilinear,
  upsample_nearest_2x,
)

SIZES = [
  ((7, 11), (13, 5)),
  ((3, 2), (17, 64)),
  ((16, 20), (8, 10)),
  ((5, 6), (10, 12)),
  ((1, 1), (4, 3)),
  ((31, 9), (50, 33)),
]


def interpolate(values, position):
  """Linear interpolation of a 1-D array at pixel positions, by the book."""
  position = np.clip(position, 0, len(values) - 1)
  return np.interp(position, np.arange(len(values)), values)


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_equals_interpolation_at_half_pixel_centres(source, target):
  x = np.random.default_rng(0).standard_normal((2, *source, 3))
  expected = x
  for axis in (1, 2):
    n, m = source[axis - 1], target[axis - 1]
    position = (np.arange(m) + 0.5) * n / m - 0.5
    expected = np.apply_along_axis(interpolate, axis, expected, position)
  actual = jax.jit(resize_bilinear, static_argnums=1)(
    jnp.asarray(x, jnp.float32), target
  )
  # float32 sample positions, as in PyTorch: about 1e-7 of the size.
  np.testing.assert_allclose(actual, expected, atol=1e-5)


# The fraction at some outputs of F.interpolate (torch 2.13.0) on the signal
# 0, 1, 0, 1, ...: what float32 positions make of the exact value.
@pytest.mark.parametrize(
  ("source", "target", "index", "value"),
  [
    (311, 500, 1, 0.43299996852874756),
    (311, 500, 166, 0.9370040893554688),
    (311, 500, 250, 0.6890106201171875),
    (311, 500, 497, 0.944976806640625),
    (24, 36, 12, 0.16666650772094727),
    (24, 36, 33, 0.16666603088378906),
    (42, 40, 13, 0.3250007629394531),
  ],
)
def test_rounds_like_torch(source, target, index, value):
  signal = np.arange(source) % 2
  result = interpolation_matrix(source, target) @ signal.astype(np.float32)
  assert abs(result[index] - value) <= 6e-8


def test_doubling_by_hand():
  # Positions -0.25, 0.25, 0.75, 1.25 of (0, 4): 0, 1, 3, 4 with clamped ends.
  x = jnp.asarray([0.0, 4.0]).reshape(1, 1, 2, 1)
  result = resize_bilinear(x, (1, 4))
  np.testing.assert_array_equal(result.ravel(), [0, 1, 3, 4])


def test_halving_does_not_antialias_beyond_two_pixels():
  # Factor 4 reads the central 2 of every 4 pixels only.
  x = jnp.asarray([9.0, 1, 3, 9, 9, 5, 7, 9]).reshape(1, 1, 8, 1)
  np.testing.assert_array_equal(resize_bilinear(x, (1, 2)).ravel(), [2, 6])


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_gradient_is_the_transposed_matrix(source, target):
  rng = np.random.default_rng(1)
  x = rng.standard_normal((1, *source, 2)).astype(np.float32)
  cotangent = rng.standard_normal((1, *target, 2)).astype(np.float32)
  _, pull_back = jax.vjp(lambda x: resize_bilinear(x, target), x)
  expected = np.einsum(
    "ih,jw,bijc->bhwc",
    interpolation_matrix(source[0], target[0]),
    interpolation_matrix(source[1], target[1]),
    cotangent.astype(np.float64),
  )
  np.testing.assert_allclose(pull_back(cotangent)[0], expected, atol=3e-5)


@pytest.mark.parametrize("axis", [1, 2])
def test_products_of_tpus_equal_reads_of_slices(axis):
  x = np.random.default_rng(0).normal(size=(2, 7, 7, 3)).astype("f")
  matrix = interpolation_matrix(7, 11)
  for one in (matrix, interpolation_matrix(11, 7).T):
    np.testing.assert_allclose(
      resize.apply_dense(x, one, axis=axis),
      resize.apply_sparse(x, one, axis=axis),
      atol=1e-6,
    )


def test_programs_of_tpus_read_no_slices():
  def gathers(platform):
    exported = jax.export.export(
      jax.jit(lambda x: resize_bilinear(x, (16, 16))), platforms=[platform]
    )(jax.ShapeDtypeStruct((1, 8, 8, 4), jnp.float32))
    return exported.mlir_module().count("stablehlo.gather")

  assert gathers("tpu") == 0 < gathers("cpu")


def test_same_size_is_identity_and_dtype_is_kept():
  x = jnp.ones((1, 4, 4, 1), jnp.bfloat16)
  assert resize_bilinear(x, (4, 4)) is x
  assert resize_bilinear(x, (3, 5)).dtype == jnp.bfloat16


@pytest.mark.parametrize("size", [(4, 6), (3, 6), (3, 5)])
def test_nearest_reads_floor_of_half(size):
  x = np.arange(12.0).reshape(1, 2, 3, 2)
  rows, columns = np.arange(size[0]) // 2, np.arange(size[1]) // 2
  np.testing.assert_array_equal(
    upsample_nearest_2x(jnp.asarray(x), size), x[:, rows][:, :, columns]
  )


def test_nearest_refuses_other_factors():
  with pytest.raises(ValueError, match=r"twice \(2, 3\).*got \(5, 6\)"):
    upsample_nearest_2x(jnp.zeros((1, 2, 3, 1)), (5, 6))
