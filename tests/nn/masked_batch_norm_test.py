"""Tests of solo_jax/nn/masked_batch_norm.py."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.nn.masked_batch_norm import MaskedBatchNorm

SETTINGS = dict(momentum=0.9, epsilon=1e-5, dtype=jnp.float32)
RNG = np.random.default_rng(0)
X = RNG.normal(2, 3, (8, 3, 2, 4)).astype("f")
VALID = np.array([1, 1, 1, 0, 0, 1, 0, 0], bool)
VARIABLES = {
  "params": {"scale": RNG.random(4, "f"), "bias": RNG.random(4, "f")},
  "batch_stats": {"mean": RNG.random(4, "f"), "var": RNG.random(4, "f")},
}


def run(x, valid, axis_name=None):
  module = MaskedBatchNorm(axis_name=axis_name, **SETTINGS)
  return module.apply(VARIABLES, x, valid, train=True, mutable=["batch_stats"])


def assert_close(found, expected):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    found,
    expected,
  )


def test_on_a_single_device_as_flax():
  norm = nn.BatchNorm(use_running_average=False, **SETTINGS)
  mask = np.broadcast_to(VALID[:, None, None, None], (*X.shape[:3], 1))
  expected = norm.apply(VARIABLES, X, mask=mask, mutable=["batch_stats"])
  assert_close(run(X, VALID), expected)


def test_devices_with_unequal_numbers_of_rows():
  """The four hold 2, 1, 1 and 0 of the valid rows."""
  expected, stats = run(X, VALID)
  y, each = jax.vmap(lambda *x: run(*x, "devices"), axis_name="devices")(
    X.reshape(4, 2, *X.shape[1:]), VALID.reshape(4, 2)
  )
  assert_close(y.reshape(X.shape), expected)
  assert_close(jax.tree.map(lambda x: x[3], each), stats)


def test_without_valid_rows_nothing_changes():
  y, stats = run(X, np.zeros(8, bool))
  assert np.isfinite(y).all()
  assert_close(stats["batch_stats"], VARIABLES["batch_stats"])
