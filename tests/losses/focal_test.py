"""Tests of solo_jax/losses/focal.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.losses.focal import sigmoid_focal_loss


def test_focal_loss_by_hand():
  # p = 0.5: foreground 0.25 * 0.25 * log 2, background 0.75 * 0.25 * log 2.
  loss = sigmoid_focal_loss(
    jnp.zeros(2), jnp.array([1, 0]), alpha=0.25, gamma=2.0
  )
  np.testing.assert_allclose(loss, np.log(2) * np.array([0.0625, 0.1875]))


def test_gamma_zero_is_weighted_cross_entropy():
  logits = jnp.array([-3.0, 0.2, 4.0])
  targets = jnp.array([1, 0, 1])
  probs = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
  true = np.where(targets, probs, 1 - probs)
  expected = -np.where(targets, 0.25, 0.75) * np.log(true)
  loss = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=0.0)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_huge_logits_have_finite_value_and_gradient():
  logits = jnp.array([-1e4, 1e4, -200.0, 200.0])
  targets = jnp.array([1, 0, 0, 1])

  def total(x):
    return sigmoid_focal_loss(x, targets, alpha=0.25, gamma=2.0).sum()

  value, gradient = jax.value_and_grad(total)(logits)
  assert np.isfinite(value)
  # Wrong answers far out: the loss is alpha_t |x|, its slope -+ alpha_t.
  np.testing.assert_allclose(gradient, [-0.25, 0.75, 0.0, 0.0], atol=1e-6)


@pytest.mark.golden("loss_units*.npz")
def test_fixture(golden):
  num_classes = golden.config["num_classes"]
  focal = golden.config["focal"]
  targets = jax.nn.one_hot(golden["focal_target"], num_classes)

  def total(logits):
    loss = focal["loss_weight"] * sigmoid_focal_loss(
      logits, targets, alpha=focal["alpha"], gamma=focal["gamma"]
    )
    return loss.sum(), loss

  gradient, loss = jax.grad(total, has_aux=True)(golden["focal_logit"])
  np.testing.assert_allclose(loss, golden["focal_loss"], rtol=1e-4, atol=1e-7)
  np.testing.assert_allclose(
    gradient, golden["focal_grad"], rtol=1e-4, atol=1e-7
  )
