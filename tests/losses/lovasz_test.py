"""Tests of solo_jax/losses/lovasz.py."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from solo_jax.losses.lovasz import lovasz_hinge


def jaccard_loss(wrong, targets):
  """1 - IoU of the mask that differs from `targets` where `wrong`."""
  found = targets ^ wrong
  union = np.sum(found | targets)
  return 1 - np.sum(found & targets) / union if union else 0.0


def lovasz_extension(errors, targets):
  """The definition: what each pixel adds to the loss of the worse ones."""
  total, wrong = 0.0, np.zeros(len(targets), bool)
  for pixel in np.argsort(-errors, kind="stable"):
    before = jaccard_loss(wrong, targets)
    wrong[pixel] = True
    total += max(errors[pixel], 0) * (jaccard_loss(wrong, targets) - before)
  return total


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_definition(seed):
  rng = np.random.default_rng(seed)
  logits = rng.normal(size=12)
  targets = rng.random(12) > 0.6
  errors = 1 - logits * np.where(targets, 1, -1)
  np.testing.assert_allclose(
    lovasz_hinge(logits, targets), lovasz_extension(errors, targets), rtol=1e-5
  )


def test_of_errors_of_zero_and_one_is_the_jaccard_loss():
  """An extension equals the function that it extends at its corners."""
  targets = np.array([True, True, False, False])
  for wrong in itertools.product([False, True], repeat=4):
    wrong = np.array(wrong)
    # A right pixel has logit +-1 (hinge 0), a wrong one 0 (hinge 1).
    logits = np.where(wrong, 0.0, np.where(targets, 1.0, -1.0))
    np.testing.assert_allclose(
      lovasz_hinge(logits, targets), jaccard_loss(wrong, targets), atol=1e-6
    )


def test_by_hand():
  # Errors 2 (a hit missed) and 0.5 (a false alarm): the first loses all of
  # the IoU, the second has nothing left to lose.
  loss = lovasz_hinge(np.float32([-1, -0.5]), np.array([True, False]))
  np.testing.assert_allclose(loss, 2.0)


def test_gradient_is_the_finite_difference():
  rng = np.random.default_rng(5)
  logits = np.float32(rng.permutation(10) / 4 - 1.1)  # no two errors equal
  targets = rng.random(10) > 0.5
  check_grads(lambda x: lovasz_hinge(x, targets), (logits,), 1, ["rev"])


def test_masks_without_foreground_and_without_pixels():
  empty = np.zeros(4, bool)
  assert lovasz_hinge(jnp.full(4, -2.0), empty) == 0
  # One false alarm of error 3 makes the IoU 0; the others add nothing.
  assert lovasz_hinge(jnp.array([2.0, -2, -2, -2]), empty) == 3
  assert lovasz_hinge(jnp.zeros(0), np.zeros(0, bool)) == 0
  gradient = jax.grad(lambda x: lovasz_hinge(x, empty))(jnp.full(4, -2.0))
  np.testing.assert_array_equal(gradient, 0)


def test_masks_of_a_batch_are_independent():
  rng = np.random.default_rng(6)
  logits = np.float32(rng.normal(size=(2, 3, 8)))
  targets = rng.random((2, 3, 8)) > 0.5
  loss = lovasz_hinge(logits, targets)
  assert loss.shape == (2, 3)
  np.testing.assert_allclose(
    loss[1, 2], lovasz_hinge(logits[1, 2], targets[1, 2]), rtol=1e-6
  )
