"""Counts over all devices, as divisors of losses.

The loss of a step is the mean of the devices' losses. A device's sum divided by
the mean of the devices' counts gives, in that mean, the sum over the global
batch divided by its count.
"""

import jax
import jax.numpy as jnp


def share_of_one(axis_name: str | None) -> float:
  """Returns the amount that each device adds to raise a count by one.

  Args:
    axis_name: Mapped device axis; None on a single device.

  Returns:
    1 / devices.
  """
  return 1.0 if axis_name is None else 1 / jax.lax.axis_size(axis_name)


def mean_over_devices(count: jax.Array, axis_name: str | None) -> jax.Array:
  """Returns a count, averaged over the devices.

  Args:
    count: Count of this device. [] int or float.
    axis_name: Mapped device axis; None on a single device.

  Returns:
    [] float32.
  """
  count = jnp.asarray(count, jnp.float32)
  return count if axis_name is None else jax.lax.pmean(count, axis_name)


def count_everywhere(
  count: jax.Array, axis_name: str | None, *, least: float = 1.0
) -> jax.Array:
  """Returns a count over the devices that sums can be divided by.

  Args:
    count: Count of this device. [] int or float.
    axis_name: Mapped device axis; None on a single device.
    least: Smallest count over all devices, to avoid a division by zero.

  Returns:
    [] float32.
  """
  return jnp.maximum(
    mean_over_devices(count, axis_name), least * share_of_one(axis_name)
  )
