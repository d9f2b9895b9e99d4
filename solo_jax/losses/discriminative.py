"""The discriminative loss (https://arxiv.org/abs/1708.02551, eqs. 1 to 4).

Shape letters: N instances, Q pixels, T tag dimensions.
"""

import jax
import jax.numpy as jnp

from solo_jax.losses.instance_means import pair_distances, squared_distances


def variance_loss(
  tags: jax.Array, means: jax.Array, weights: jax.Array, *, margin: float
) -> jax.Array:
  """Returns the loss of tags beyond a margin around their instance's mean.

  Args:
    tags: [Q, T] float.
    means: Mean tag of each instance. [N, T] float.
    weights: Share of each pixel in each instance. [N, Q] float, >= 0.
    margin: delta_v: no pull within this distance.

  Returns:
    Weighted mean of max(0, |x - mean| - margin)^2 over the pixels of each
    instance, 0 for one without pixels. [N] float32.
  """
  distance = _root(squared_distances(tags, means))
  hinge = jnp.maximum(distance - margin, 0.0) ** 2
  size = jnp.maximum(jnp.sum(weights, axis=1), 1e-6)
  return jnp.sum(weights * hinge, axis=1) / size


def distance_loss(
  means: jax.Array, valid: jax.Array, *, margin: float
) -> jax.Array:
  """Returns the loss of means of an image that are closer than 2 margins.

  Args:
    means: [N, T] float.
    valid: [N] bool.
    margin: delta_d.

  Returns:
    Mean over pairs of max(0, 2 margin - |m_i - m_j|)^2; 0 with fewer than two
    instances. [] float32.
  """
  pairs = jnp.triu(valid[:, None] & valid[None, :], k=1)
  distance = _root(pair_distances(means))
  hinge = jnp.maximum(2 * margin - distance, 0.0) ** 2
  return jnp.sum(jnp.where(pairs, hinge, 0.0)) / jnp.maximum(jnp.sum(pairs), 1)


def regularization_loss(means: jax.Array, valid: jax.Array) -> jax.Array:
  """Returns the mean norm of the means, which keeps them near the origin.

  Args:
    means: [N, T] float.
    valid: [N] bool.

  Returns:
    [] float32, 0 without instances.
  """
  norms = _root(jnp.sum(means.astype(jnp.float32) ** 2, axis=1))
  return jnp.sum(jnp.where(valid, norms, 0.0)) / jnp.maximum(jnp.sum(valid), 1)


def _root(squares: jax.Array) -> jax.Array:
  """Returns the square root, with gradient 0 at 0 instead of infinity."""
  positive = squares > 1e-12
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)
