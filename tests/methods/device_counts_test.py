"""Tests of solo_jax/methods/device_counts.py."""

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.methods.device_counts import (
  count_everywhere,
  mean_over_devices,
  share_of_one,
)


def over_devices(function, counts):
  return jax.vmap(function, axis_name="device")(jnp.asarray(counts))


def test_the_mean_of_quotients_is_the_quotient_of_sums():
  sums, counts = np.float32([3, 0, 9, 0]), [1, 0, 5, 0]
  divisors = over_devices(lambda x: count_everywhere(x, "device"), counts)
  np.testing.assert_allclose(np.mean(sums / divisors), 12 / 6)


def test_a_count_of_zero_is_raised_to_the_least():
  assert float(count_everywhere(0, None)) == 1
  assert float(count_everywhere(jnp.int32(7), None)) == 7
  assert float(count_everywhere(0, None, least=0.1)) == np.float32(0.1)
  # One instance on four devices together, so a quarter on each.
  found = over_devices(lambda x: count_everywhere(x, "device"), [0, 0, 0, 0])
  np.testing.assert_array_equal(found, 0.25)


def test_one_more_counts_once_over_all_devices():
  total = over_devices(
    lambda x: mean_over_devices(x, "device") + share_of_one("device"),
    [1, 2, 0, 0],
  )
  np.testing.assert_allclose(np.sum(total), 3 + 1)
  assert mean_over_devices(jnp.int32(3), None).dtype == jnp.float32
