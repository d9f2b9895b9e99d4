"""Tests of solo_jax/methods/yolact/heads.py; values: network_test.py."""

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.methods.yolact.heads import (
  MaskScoreHead,
  PriorHead,
  PrototypeHead,
)


def test_a_prior_reads_its_own_position():
  """A change of one pixel of P3 changes the priors around it alone."""
  head = PriorHead(4, num_classes=2, num_protos=3, per_position=2, dtype=float)
  rng = np.random.default_rng(0)
  pyramid = [rng.normal(size=(1, s, s, 5)).astype("f") for s in (8, 4)]
  variables = jax.jit(head.init)(jax.random.key(0), pyramid)
  apply = jax.jit(head.apply)
  before = apply(variables, pyramid)
  shapes = [x.shape for x in before]
  assert shapes == [(1, 160, 3), (1, 160, 4), (1, 160, 3)]
  # A copy: JAX on a CPU reads NumPy arrays in place, after the call returns.
  touched = [pyramid[0].copy(), pyramid[1]]
  touched[0][0, 0, 0] += 1
  after = apply(variables, touched)
  for x, y in zip(before, after, strict=True):
    changed = np.any(np.asarray(x != y)[0], axis=-1)[:128].reshape(8, 8, 2)
    assert changed[0, 0].all() and not changed[3:].any()
    assert not changed[:, 3:].any()
    np.testing.assert_array_equal(x[0, 128:], y[0, 128:])


def test_prototypes_are_twice_as_large_and_not_negative():
  head = PrototypeHead(4, 3, jnp.float32)
  x = np.random.default_rng(0).normal(size=(1, 5, 7, 4)).astype("f")
  found, _ = jax.jit(head.init_with_output)(jax.random.key(0), x)
  assert found.shape == (1, 10, 14, 3)
  assert np.min(found) == 0 and np.max(found) > 0


def test_a_mask_score_is_that_of_its_mask():
  head = MaskScoreHead((4, 4), 3, jnp.float32)
  masks = np.random.default_rng(0).uniform(size=(3, 16, 16)).astype("f")
  run = jax.jit(head.init_with_output)
  found, variables = run(jax.random.key(1), masks)
  assert found.shape == (3, 3) and np.max(found) > 0
  alone = head.apply(variables, masks[1:2])
  np.testing.assert_allclose(alone[0], found[1], rtol=1e-5)
