"""Dice loss between soft masks and their targets."""

import jax
import jax.numpy as jnp

EPSILON = 1e-3  # as in every published SOLO


def dice_loss(
  probs: jax.Array, targets: jax.Array, *, epsilon: float = EPSILON
) -> jax.Array:
  """Returns the dice loss of each mask, un-reduced.

  1 - 2 sum(p t) / (sum p^2 + eps + sum t^2 + eps): the squared-denominator
  form of V-Net (https://arxiv.org/abs/1606.04797), as used by SOLO
  (https://arxiv.org/abs/1912.04488, eq. 3).

  Args:
    probs: Mask probabilities in [0, 1]. [..., h, w] float.
    targets: Mask targets in [0, 1]. [..., h, w] float.
    epsilon: Added to each squared sum.

  Returns:
    Loss per mask in [0, 1]. [...] float32.

  Raises:
    ValueError: If `probs` and `targets` differ in shape.

  Examples:
    >>> import jax.numpy as jnp
    >>> mask = jnp.array([[1.0, 1.0], [0.0, 0.0]])
    >>> half = jnp.array([[1.0, 0.0], [0.0, 0.0]])
    >>> [round(float(dice_loss(x, mask)), 2) for x in (mask, half, 1 - mask)]
    [0.0, 0.33, 1.0]
  """
  if probs.shape != targets.shape:
    raise ValueError(
      f"probs {probs.shape} and targets {targets.shape} must have one shape"
    )
  probs = probs.astype(jnp.float32)
  targets = targets.astype(jnp.float32)
  overlap = jnp.sum(probs * targets, axis=(-2, -1))
  size = jnp.sum(probs * probs, axis=(-2, -1)) + epsilon
  target_size = jnp.sum(targets * targets, axis=(-2, -1)) + epsilon
  return 1 - 2 * overlap / (size + target_size)
