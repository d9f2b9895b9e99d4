"""Tests of solo_jax/methods/mask_rcnn/heads.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import RegularGridInterpolator

from solo_jax.methods.mask_rcnn.heads import (
  MaskHead,
  SemanticHead,
  Upsample,
  resize_corners,
)
from tests.random_variables import random_variables


def test_upsampling_tap_by_tap():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(1, 2, 3, 4)).astype(np.float32)
  kernel = rng.normal(size=(4, 2, 2, 5)).astype(np.float32)
  bias = rng.normal(size=5).astype(np.float32)
  y = Upsample(5, dtype=jnp.float32).apply(
    {"params": {"kernel": kernel, "bias": bias}}, x
  )
  assert y.shape == (1, 4, 6, 5)
  for i, j, a, b in ((0, 0, 0, 0), (1, 2, 1, 0), (0, 1, 0, 1)):
    expected = x[0, i, j] @ kernel[:, a, b] + bias
    np.testing.assert_allclose(
      y[0, 2 * i + a, 2 * j + b], expected, rtol=1e-5, atol=1e-6
    )


def test_a_mask_head_adds_the_features_of_the_previous_stage():
  head = MaskHead(
    num_classes=2,
    num_convs=1,
    channels=3,
    norm=None,
    logits_init="small",
    is_fed=True,
    axis_name=None,
    dtype=jnp.float32,
  )
  x, before = jnp.ones((2, 1, 4, 4, 3))
  variables = random_variables(
    functools.partial(head.init, train=False), x, before
  )
  apply = jax.jit(functools.partial(head.apply, train=False))
  logits, features = apply(variables, x, before)
  assert logits.shape == (1, 8, 8, 2)
  assert features.shape == x.shape
  changed, _ = apply(variables, x, -before)
  assert np.abs(np.asarray(changed - logits)).max() > 1e-6


def test_corners_stay_at_the_corners():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(1, 4, 7, 2)).astype(np.float32)
  y = resize_corners(jnp.asarray(x), (6, 3))
  read = RegularGridInterpolator((np.arange(4), np.arange(7)), x[0])
  at = np.meshgrid(np.linspace(0, 3, 6), np.linspace(0, 6, 3), indexing="ij")
  np.testing.assert_allclose(y[0], read(np.stack(at, -1)), atol=1e-5)
  assert resize_corners(x, (4, 7)) is x
  row = resize_corners(jnp.asarray(x[:, :1]), (3, 7))
  np.testing.assert_array_equal(row, x[:, :1].repeat(3, axis=1))


def test_semantic_branch_reads_every_level():
  head = SemanticHead(num_classes=3, channels=4, num_convs=1, dtype=jnp.float32)
  rng = np.random.default_rng(0)
  pyramid = [
    jnp.asarray(rng.normal(size=(1, s, s, 4)), jnp.float32)
    for s in (16, 8, 4, 2, 1)
  ]
  variables = jax.jit(head.init)(jax.random.key(0), pyramid)
  apply = jax.jit(head.apply)
  logits, features = apply(variables, pyramid)
  assert logits.shape == (1, 8, 8, 3)
  assert features.shape == (1, 8, 8, 4)
  assert float(features.min()) >= 0
  for level in range(5):
    changed = list(pyramid)
    changed[level] = changed[level] + 5
    found, _ = apply(variables, changed)
    assert np.abs(np.asarray(found - logits)).max() > 1e-3, level
