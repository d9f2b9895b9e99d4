"""Tests of solo_jax/nn/conv.py."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from solo_jax.nn import conv
from solo_jax.nn.conv import Conv, kernel_gradient, same_conv2d


@pytest.fixture
def rng():
  return np.random.default_rng(5)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_convolves_and_differentiates_like_scipy(rng, size):
  x = rng.normal(size=(2, 7, 6, 3))
  kernel = rng.normal(size=(size, size, 3, 4))
  factors = rng.normal(size=(2, 7, 6, 4))
  expected, by_x = np.zeros_like(factors), np.zeros_like(x)
  by_kernel = np.zeros_like(kernel)
  p = size // 2
  padded = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
  for b, c, o in np.ndindex(2, 3, 4):
    taps, factor = kernel[:, :, c, o], factors[b, :, :, o]
    expected[b, ..., o] += signal.correlate2d(x[b, ..., c], taps, "same")
    by_x[b, ..., c] += signal.convolve2d(factor, taps, "same")
    by_kernel[..., c, o] += signal.correlate2d(
      padded[b, ..., c], factor, "valid"
    )

  y, pull_back = jax.vjp(same_conv2d, np.float32(x), np.float32(kernel))
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
  found = pull_back(np.float32(factors))
  np.testing.assert_allclose(found[0], by_x, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(found[1], by_kernel, rtol=1e-4, atol=1e-4)


# A prime height has rows of one; the last sizes have several blocks.
@pytest.mark.parametrize("shape", [(1, 1), (13, 5), (6, 700), (48, 64)])
def test_blocks_of_any_map_add_up(rng, shape):
  x = np.float32(rng.normal(size=(2, *shape, 3)))
  gradient = np.float32(rng.normal(size=(2, *shape, 2)))
  kernel = jnp.zeros((3, 3, 3, 2))

  @jax.jit
  def both(x, gradient):
    _, pull_back = jax.vjp(lambda k: conv.plain_conv(x, k), kernel)
    return *pull_back(gradient), kernel_gradient(x, gradient, size=3)

  plain, found = both(x, gradient)
  scale = np.abs(plain).max()
  np.testing.assert_allclose(found, plain, atol=1e-5 * scale)


# Odd sides, a stride that leaves pixels out, several blocks, one tap.
@pytest.mark.parametrize(
  ("shape", "size", "stride"),
  [((9, 8), 3, 2), ((11, 7), 3, 3), ((70, 96), 5, 2), ((6, 7), 1, 2)],
)
def test_strided_gradient_is_that_of_xla(rng, shape, size, stride):
  x = np.float32(rng.normal(size=(2, *shape, 3)))
  kernel = np.float32(rng.normal(size=(size, size, 3, 4)))

  @jax.jit
  def both(x, kernel):
    found = []
    for convolve in (same_conv2d, conv.plain_conv):
      y, pull_back = jax.vjp(
        lambda x, k, convolve=convolve: convolve(x, k, stride=stride), x, kernel
      )
      found.append(
        (
          y,
          *pull_back(jnp.cos(jnp.arange(y.size) + y.ravel()).reshape(y.shape)),
        )
      )
    return found

  for ours, xla in zip(*both(x, kernel), strict=True):
    scale = np.abs(xla).max()
    np.testing.assert_allclose(ours, xla, atol=1e-5 * scale)


def test_bfloat16_sums_in_float32(rng):
  x = jnp.asarray(rng.normal(size=(1, 64, 64, 2)), jnp.bfloat16)
  gradient = jnp.ones((1, 64, 64, 1), jnp.bfloat16)
  found = kernel_gradient(x, gradient, size=1)
  assert found.dtype == jnp.float32
  exact = np.float64(x).sum((0, 1, 2))
  np.testing.assert_allclose(found[0, 0, :, 0], exact, rtol=1e-5, atol=1e-3)
  _, pull_back = jax.vjp(same_conv2d, x, jnp.ones((1, 1, 2, 1), x.dtype))
  # Compiled, where the ways of all platforms are traced.
  gradients = jax.jit(pull_back)(gradient)
  assert [g.dtype for g in gradients] == [jnp.bfloat16] * 2


@pytest.mark.parametrize(
  "options",
  [
    dict(kernel_size=(3, 3), padding=1),
    dict(kernel_size=(1, 1), padding=0),
    dict(kernel_size=(3, 3), padding=1, strides=2),
    dict(kernel_size=(3, 3), padding=0),
    dict(kernel_size=(3, 3), padding=2, kernel_dilation=2),
    dict(kernel_size=(2, 2), padding=1),
    dict(kernel_size=(3, 1), padding="SAME"),
    dict(kernel_size=(3, 3), padding=1, feature_group_count=2),
  ],
)
def test_layer_is_flax_own(rng, options):
  """Whatever the geometry: same parameters, results and gradients."""
  x = np.float32(rng.normal(size=(2, 8, 9, 4)))
  ours, theirs = Conv(6, **options), nn.Conv(6, **options)
  variables = jax.jit(theirs.init)(jax.random.key(0), x)
  shapes = jax.eval_shape(ours.init, jax.random.key(0), x)
  assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)

  def run(layer):
    def loss(variables, x):
      y = layer.apply(variables, x)
      return jnp.sum(y * jnp.cos(jnp.arange(y.size).reshape(y.shape)))

    return jax.value_and_grad(loss, (0, 1))(variables, x)

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    *jax.jit(lambda: (run(ours), run(theirs)))(),
  )


def test_precision_is_obeyed(rng, monkeypatch):
  """By XLA's own convolution: ours takes none."""
  seen = []
  convolve = jax.lax.conv_general_dilated

  def record(*args, **options):
    seen.append(options["precision"])
    return convolve(*args, **options)

  monkeypatch.setattr(jax.lax, "conv_general_dilated", record)
  layer = Conv(4, (3, 3), precision="highest")
  layer.init(jax.random.key(0), np.ones((1, 5, 5, 3), np.float32))
  assert seen == ["highest"]


def test_derivatives_of_both_modes_agree_with_xla(rng):
  x = np.float32(rng.normal(size=(2, 6, 5, 3)))
  kernel = np.float32(rng.normal(size=(3, 3, 3, 4)))
  dx, dk = np.float32(rng.normal(size=x.shape)), np.float32(kernel[::-1])

  def loss(function, x, kernel):
    return jnp.sum(jnp.sin(function(x, kernel)))

  def forward(function):
    return jax.jvp(function, (x, kernel), (dx, dk))

  def forward_over_reverse(function):
    gradient = jax.grad(lambda x, k: loss(function, x, k), (0, 1))
    return jax.jvp(gradient, (x, kernel), (dx, dk))

  def reverse_over_reverse(function):
    gradient = jax.grad(lambda k: loss(function, x, k))
    return jax.grad(lambda k: jnp.sum(gradient(k) ** 2))(kernel)

  def mapped(function):
    return (
      jax.vmap(function, (0, None))(x[None], kernel),
      jax.vmap(function, (None, 0))(x, kernel[None]),
    )

  for derive in (forward, forward_over_reverse, reverse_over_reverse, mapped):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3),
      *jax.jit(
        lambda derive=derive: (derive(same_conv2d), derive(conv.plain_conv))
      )(),
    )


def test_other_platforms_get_the_compilers_convolution(monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  assert Conv(4, (3, 3)).conv_general_dilated is None
