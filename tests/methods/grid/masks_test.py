"""Tests of solo_jax/methods/grid/masks.py."""

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.losses.chunks import CHUNK
from solo_jax.losses.dice import dice_loss
from solo_jax.methods.grid.masks import (
  Factor,
  dice,
  joint_logits,
  mask_logits,
  mask_sum,
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


def dice_sum(*args):
  return mask_sum(*args, mask_loss=dice)


def plain_sum(factors, coverage, instance, valid, plain_loss=dice_loss):
  """The same by plain array code, which JAX differentiates."""
  probs = 1.0
  for f in factors:
    feature = resize_bilinear(f.feature, (8, 16))  # before the convolution
    logits = jnp.einsum("bpe,bhwe->bphw", f.kernel, feature)
    probs *= jax.nn.sigmoid(logits + f.bias[..., None, None])
  target = jnp.take_along_axis(coverage, instance[..., None, None], axis=1)
  return jnp.sum(jnp.where(valid, plain_loss(probs, target), 0.0))


def test_sum_and_gradients_equal_plain_code():
  factors, bits, instance, valid = make_case()
  packed = pack_bits(bits)
  actual = jax.jit(jax.value_and_grad(lambda f: 2 * dice_sum(f, *rest)))
  rest = packed, instance, valid
  expected = jax.jit(
    jax.value_and_grad(
      lambda f: 2 * plain_sum(f, bits.astype(np.float32), instance, valid)
    )
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


def cross_entropy(logits, targets):
  """A mask loss that someone else wrote: it knows logits, not factors."""
  x = joint_logits(logits)
  return jnp.mean(jax.nn.softplus(x) - targets * x, axis=(1, 2))


def test_another_mask_loss_is_summed_over_the_same_pairs():
  factors, bits, instance, valid = make_case()

  def plain(probs, target):
    entropy = target * jnp.log(probs) + (1 - target) * jnp.log1p(-probs)
    return -jnp.mean(entropy, axis=(-2, -1))

  rest = instance, valid
  actual = jax.jit(
    jax.value_and_grad(
      lambda f: mask_sum(f, pack_bits(bits), *rest, mask_loss=cross_entropy)
    )
  )(factors)
  expected = jax.jit(
    jax.value_and_grad(
      lambda f: plain_sum(f, bits.astype(np.float32), *rest, plain)
    )
  )(factors)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
    actual,
    expected,
  )


def test_joint_logits_are_those_of_the_product():
  x = np.random.default_rng(1).normal(size=(3, 2, 4, 4)).astype("f") * 5
  product = np.prod(1 / (1 + np.exp(-np.float64(x))), axis=0)
  np.testing.assert_allclose(
    jax.jit(joint_logits)(tuple(x)), np.log(product / (1 - product)), rtol=1e-4
  )
  np.testing.assert_array_equal(joint_logits((x[0],)), x[0])


def test_joint_logits_of_certain_factors_stay_finite():
  sure = jnp.array([[[200.0, -200.0], [200.0, -200.0]]])
  other = jnp.array([[[200.0, -200.0], [-200.0, 0.0]]])
  joint = jax.jit(joint_logits)((sure, other))
  expected = [[[200 - np.log(2), -400], [-200, -200 - np.log(2)]]]
  np.testing.assert_allclose(joint, expected, rtol=1e-6)
  total = jax.jit(jax.grad(lambda x: joint_logits((x, other)).sum()))
  gradient = total(sure)
  assert np.isfinite(gradient).all()
