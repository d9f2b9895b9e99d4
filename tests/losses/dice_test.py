"""Tests of solo_jax/losses/dice.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.losses.dice import dice_loss


def test_by_hand():
  probs = jnp.array([[[1.0, 0.5], [0.0, 0.0]]])
  targets = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
  # overlap 1, squares 1.25 and 2: 1 - 2 / (3.25 + 0.002)
  loss = dice_loss(probs, targets, where=jnp.array([True]))
  np.testing.assert_allclose(loss, [1 - 2 / 3.252], rtol=1e-6)


def test_padding_gives_zero_loss_and_gradient():
  rng = np.random.default_rng(0)
  probs = jnp.asarray(rng.random((3, 4, 4)), jnp.float32)
  targets = jnp.asarray(rng.random((3, 4, 4)) > 0.5)
  where = jnp.array([True, False, True])

  def total(p):
    return dice_loss(p, targets, where=where).sum()

  np.testing.assert_array_equal(jax.grad(total)(probs)[1], 0)
  subset = dice_loss(probs[::2], targets[::2], where=where[::2])
  np.testing.assert_allclose(total(probs), subset.sum(), rtol=1e-6)


def test_empty_pair_has_finite_gradient():
  gradient = jax.grad(
    lambda p: dice_loss(p, jnp.zeros((1, 2, 2)), where=jnp.ones(1, bool)).sum()
  )(jnp.zeros((1, 2, 2)))
  assert np.isfinite(gradient).all()


def test_shapes_must_agree():
  with pytest.raises(ValueError, match=r"probs \(1, 2, 2\) and targets"):
    dice_loss(
      jnp.zeros((1, 2, 2)), jnp.zeros((1, 4, 4)), where=jnp.ones(1, bool)
    )


@pytest.mark.golden("loss_units*.npz")
def test_fixture(golden):
  weight = golden.config["dice_weight"]
  targets = golden["dice_target"]
  where = jnp.ones(len(targets), bool)

  def total(logits):
    loss = weight * dice_loss(jax.nn.sigmoid(logits), targets, where=where)
    return loss.sum(), loss

  gradient, loss = jax.grad(total, has_aux=True)(golden["dice_logit"])
  np.testing.assert_allclose(loss, golden["dice_loss"], rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(
    gradient, golden["dice_grad"], rtol=1e-4, atol=1e-7
  )
