"""Batch norm whose statistics leave out some rows, over all devices."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class MaskedBatchNorm(nn.Module):
  """Batch norm of the valid rows, wherever they are.

  Flax averages the means of the devices regardless of their number of valid
  rows, and gives NaN if a device has none. Here sums are divided by the
  count of all devices. Parameters and statistics have the same names.

  Attributes:
    axis_name: Mapped device axis of the sums; None on a single device.
    momentum: Share of the running statistics that is kept.
    epsilon: Added to the variance.
    dtype: Type of the result.
  """

  axis_name: str | None
  momentum: float
  epsilon: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(
    self, x: jax.Array, valid: jax.Array, *, train: bool
  ) -> jax.Array:
    """Returns normalised rows.

    Args:
      x: [n, h, w, C] float.
      valid: Rows that count in the statistics; without any, the running ones
        are used and stay as they are. [n] bool.
      train: Whether statistics of the batch are used.

    Returns:
      [n, h, w, C] `dtype`.
    """
    shape = (x.shape[-1],)
    mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
    var = self.variable("batch_stats", "var", jnp.ones, shape)
    scale = self.param("scale", nn.initializers.ones, shape)
    bias = self.param("bias", nn.initializers.zeros, shape)
    x = x.astype(jnp.float32)
    used_mean, used_var = mean.value, var.value
    if train and not self.is_initializing():
      used_mean, used_var = self._statistics(x, valid, mean.value, var.value)
      for kept, used in ((mean, used_mean), (var, used_var)):
        kept.value = self.momentum * kept.value + (1 - self.momentum) * used
    factor = scale * jax.lax.rsqrt(used_var + self.epsilon)
    return ((x - used_mean) * factor + bias).astype(self.dtype)

  def _statistics(self, x, valid, mean, var):
    """Returns mean and variance of the valid rows, or the given ones."""
    weight = valid.astype(jnp.float32)[:, None, None, None]
    sums = (
      jnp.sum(weight) * x.shape[1] * x.shape[2],
      jnp.sum(weight * x, axis=(0, 1, 2)),
      jnp.sum(weight * x * x, axis=(0, 1, 2)),
    )
    if self.axis_name is not None:
      sums = jax.lax.psum(sums, self.axis_name)
    count, first, second = sums
    found = first / jnp.maximum(count, 1)
    spread = jnp.maximum(second / jnp.maximum(count, 1) - found * found, 0)
    return jnp.where(count > 0, found, mean), jnp.where(count > 0, spread, var)
