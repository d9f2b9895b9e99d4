"""Tests of solo_jax/methods/grid/masks.py."""

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.losses.dice import dice_loss
from solo_jax.methods.grid.masks import (
  CHUNK,
  Factor,
  dice_sum,
  mask_logits,
)
from solo_jax.nn.resize import resize_bilinear
from tests.target_masks import pack_bits, pack_coverage

NUM_PAIRS = CHUNK + 3  # two chunks, the second one partly filled


def make_case(num_valid=NUM_PAIRS):
  """Two images; masks of 8 x 16 from maps of 4 x 8 and of 8 x 16."""
  rng = np.random.default_rng(0)

  def factor(h, w):
    shapes = (2, h, w, 3), (2, NUM_PAIRS, 3), (2, NUM_PAIRS)
    return Factor(
      *(jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes)
    )

  bits = rng.random((2, 4, 8, 16)) > 0.5
  instance = rng.integers(0, 4, (2, NUM_PAIRS))
  valid = np.arange(NUM_PAIRS) < np.array([[num_valid], [num_valid // 2]])
  return (factor(4, 8), factor(8, 16)), bits, instance, valid


def plain_sum(factors, coverage, instance, valid):
  """The same by plain array code, which JAX differentiates."""
  probs = 1.0
  for f in factors:
    feature = resize_bilinear(f.feature, (8, 16))  # before the convolution
    logits = jnp.einsum("bpe,bhwe->bphw", f.kernel, feature)
    probs *= jax.nn.sigmoid(logits + f.bias[..., None, None])
  target = jnp.take_along_axis(coverage, instance[..., None, None], axis=1)
  return jnp.sum(dice_loss(probs, target, where=valid))


def test_sum_and_gradients_equal_plain_code():
  factors, bits, instance, valid = make_case()
  packed = pack_bits(bits)
  actual = jax.jit(jax.value_and_grad(lambda f: 2 * dice_sum(f, *rest)))
  rest = packed, instance, valid
  expected = jax.value_and_grad(
    lambda f: 2 * plain_sum(f, bits.astype(np.float32), instance, valid)
  )(factors)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
    actual(factors),
    expected,
  )


def test_coverage_of_whole_pixels_equals_bits():
  factors, bits, *rest = make_case()
  run = jax.jit(dice_sum)
  np.testing.assert_allclose(
    run(factors, pack_bits(bits), *rest),
    run(factors, pack_coverage(255 * bits), *rest),
    rtol=1e-6,
  )


def test_without_pairs_the_gradient_is_zero():
  factors, bits, instance, valid = make_case(num_valid=0)
  value, gradient = jax.jit(jax.value_and_grad(dice_sum))(
    factors, pack_bits(bits), instance, valid
  )
  assert value == 0
  assert not any(np.any(x) for x in jax.tree.leaves(gradient))


def test_logits_by_hand():
  feature = jnp.array([[[1.0, 2.0], [3.0, -1.0]]])  # 1 x 2 pixels, E = 2
  logits = mask_logits(
    feature, jnp.array([[1.0, 1.0], [2.0, 0.0]]), jnp.array([0.5, 0.0]), (1, 2)
  )
  np.testing.assert_allclose(logits, [[[3.5, 2.5]], [[2.0, 6.0]]])
