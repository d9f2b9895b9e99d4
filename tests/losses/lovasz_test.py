"""Tests of solo_jax/losses/lovasz.py."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.losses import lovasz

lovasz_hinge = jax.jit(lovasz.lovasz_hinge)


def jaccard_loss(wrong, targets):
  """1 - IoU of the mask that differs from `targets` where `wrong`."""
  found = targets ^ wrong
  union = np.sum(found | targets)
  return 1 - np.sum(found & targets) / union if union else 0.0


def lovasz_extension(logits, targets):
  """The definition: what each pixel adds to the loss of the worse ones."""
  errors = 1 - logits * np.where(targets, 1, -1)
  total, wrong = 0.0, np.zeros(len(targets), bool)
  for pixel in np.argsort(-errors, kind="stable"):
    before = jaccard_loss(wrong, targets)
    wrong[pixel] = True
    total += max(errors[pixel], 0) * (jaccard_loss(wrong, targets) - before)
  return total


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_value_and_gradient_equal_the_definition(share):
  """The gradient against central differences of the definition in float64."""
  rng = np.random.default_rng(5)
  targets = rng.random((6, 12)) < share
  logits = 1.5 * rng.normal(size=(6, 12))
  values_and_slopes = jax.jit(jax.vmap(jax.value_and_grad(lovasz_hinge)))
  losses, gradients = jax.device_get(
    values_and_slopes(np.float32(logits), targets)
  )
  steps = 1e-6 * np.eye(12)
  for x, mask, loss, gradient in zip(
    logits, targets, losses, gradients, strict=True
  ):
    np.testing.assert_allclose(loss, lovasz_extension(x, mask), rtol=1e-5)
    rises = [
      lovasz_extension(x + step, mask) - lovasz_extension(x - step, mask)
      for step in steps
    ]
    np.testing.assert_allclose(
      gradient, np.array(rises) / 2e-6, rtol=1e-4, atol=1e-6
    )


def test_lovasz_hinge_of_binary_errors_is_the_jaccard_loss():
  """An extension equals the function that it extends at its corners."""
  targets = np.array([True, True, False, False])
  for wrong in itertools.product([False, True], repeat=4):
    wrong = np.array(wrong)
    # A right pixel has logit +-1 (hinge 0), a wrong one 0 (hinge 1).
    logits = np.where(wrong, 0.0, np.where(targets, 1.0, -1.0))
    np.testing.assert_allclose(
      lovasz_hinge(logits, targets), jaccard_loss(wrong, targets), atol=1e-6
    )


def test_lovasz_hinge_by_hand():
  # Errors 2 (a hit missed) and 0.5 (a false alarm): the first loses all of
  # the IoU, the second has nothing left to lose.
  loss = lovasz_hinge(np.float32([-1, -0.5]), np.array([True, False]))
  np.testing.assert_allclose(loss, 2.0)
  # The false alarm is worse, 3: the IoU falls to 1/2, then error 2 takes the
  # other half.
  loss = lovasz_hinge(np.float32([-1, 2]), np.array([True, False]))
  np.testing.assert_allclose(loss, 3 / 2 + 2 / 2)


def test_order_of_pixels_and_sure_background_do_not_matter():
  rng = np.random.default_rng(7)
  logits = np.float32(rng.normal(size=12).round(1))  # with equal errors
  targets = rng.random(12) > 0.5
  order = rng.permutation(12)
  loss = lovasz_hinge(logits, targets)
  np.testing.assert_allclose(
    lovasz_hinge(logits[order], targets[order]), loss, rtol=1e-5
  )
  # Background beyond its margin, as padding would be, has no hinge error.
  np.testing.assert_allclose(
    lovasz_hinge(
      np.append(logits, np.float32([-1, -50])),
      np.append(targets, [False, False]),
    ),
    loss,
    rtol=1e-5,
  )


def test_masks_without_foreground_and_without_pixels():
  value_and_slope = jax.jit(jax.value_and_grad(lovasz_hinge))
  empty = np.zeros(4, bool)
  loss, gradient = value_and_slope(jnp.full(4, -2.0), empty)
  assert loss == 0
  np.testing.assert_array_equal(gradient, 0)
  # One false alarm of error 3 makes the IoU 0; the others add nothing.
  loss, gradient = value_and_slope(np.float32([2, -0.5, -2, -2]), empty)
  assert loss == 3
  np.testing.assert_array_equal(gradient, [1, 0, 0, 0])
  assert lovasz_hinge(np.zeros(0, np.float32), np.zeros(0, bool)) == 0


def test_one_true_pixel_and_only_true_pixels():
  # One pixel in four, missed by 2; no false alarm within the margin.
  one = np.array([False, True, False, False])
  assert lovasz_hinge(np.float32([-1, -1, -1, -1]), one) == 2
  # All true: each miss costs its share, 1/4 of 1 + 2 + 0 + 0.
  loss = lovasz_hinge(np.float32([0, -1, 1, 5]), np.ones(4, bool))
  np.testing.assert_allclose(loss, 3 / 4, rtol=1e-6)


def test_masks_of_a_batch_are_independent():
  rng = np.random.default_rng(6)
  logits = np.float32(rng.normal(size=(2, 3, 12)))
  targets = rng.random((2, 3, 12)) > 0.5
  loss = np.asarray(lovasz_hinge(logits, targets))
  assert loss.shape == (2, 3)
  for b, n in np.ndindex(2, 3):
    np.testing.assert_allclose(
      loss[b, n],
      lovasz_extension(np.float64(logits[b, n]), targets[b, n]),
      rtol=1e-5,
    )
