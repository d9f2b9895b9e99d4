"""Smooth L1 loss of box codes (https://arxiv.org/abs/1504.08083, eq. 3)."""

import jax
import jax.numpy as jnp


def smooth_l1_loss(
  codes: jax.Array, targets: jax.Array, *, beta: float
) -> jax.Array:
  """Returns the loss of each number, un-reduced.

  0.5 d^2 / beta where |d| < beta, |d| - beta / 2 elsewhere.

  Args:
    codes: [...] float.
    targets: [...] float.
    beta: Where the square ends; 0: the absolute difference.

  Returns:
    [...] float32.

  Examples:
    >>> import jax.numpy as jnp
    >>> codes = jnp.array([0.0, 1.0, 3.0])
    >>> smooth_l1_loss(codes, jnp.zeros(3), beta=2.0).tolist()
    [0.0, 0.25, 2.0]
  """
  difference = codes.astype(jnp.float32) - targets
  size = jnp.abs(difference)
  if beta == 0:
    return size
  return jnp.where(
    size < beta, 0.5 * difference * difference / beta, size - 0.5 * beta
  )
