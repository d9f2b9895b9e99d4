"""Tests of solo_jax/losses/dice.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.losses.dice import dice_loss


def test_dice_loss_by_hand():
  probs = jnp.array([[[1.0, 0.5], [0.0, 0.0]]])
  targets = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
  # overlap 1, squares 1.25 and 2: 1 - 2 / (3.25 + 0.002)
  loss = dice_loss(probs, targets)
  np.testing.assert_allclose(loss, [1 - 2 / 3.252], rtol=1e-6)


def test_each_mask_has_its_own_loss():
  rng = np.random.default_rng(0)
  probs = jnp.asarray(rng.random((3, 4, 4)), jnp.float32)
  targets = jnp.asarray(rng.random((3, 4, 4)) > 0.5)
  gradient = jax.jit(jax.grad(lambda p: dice_loss(p, targets)[1]))(probs)
  assert np.any(gradient[1]) and not np.any(gradient[::2])
  subset = dice_loss(probs[::2], targets[::2])
  np.testing.assert_allclose(dice_loss(probs, targets)[::2], subset, rtol=1e-6)


def test_empty_pair_has_finite_gradient():
  nothing = np.zeros((1, 2, 2), np.float32)
  gradient = jax.jit(jax.grad(lambda p: dice_loss(p, nothing).sum()))(nothing)
  assert np.isfinite(gradient).all()


def test_shapes_must_agree():
  with pytest.raises(ValueError, match=r"probs \(1, 2, 2\) and targets"):
    dice_loss(jnp.zeros((1, 2, 2)), jnp.zeros((1, 4, 4)))


@pytest.mark.golden("loss_units*.npz")
def test_fixture(golden):
  weight = golden.config["dice_weight"]
  targets = golden["dice_target"]

  def total(logits):
    loss = weight * dice_loss(jax.nn.sigmoid(logits), targets)
    return loss.sum(), loss

  gradient, loss = jax.jit(jax.grad(total, has_aux=True))(golden["dice_logit"])
  np.testing.assert_allclose(loss, golden["dice_loss"], rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(
    gradient, golden["dice_grad"], rtol=1e-4, atol=1e-7
  )
