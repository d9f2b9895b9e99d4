"""The associative embedding loss (https://arxiv.org/abs/1611.05424, eq. 1).

Shape letters: N instances, Q pixels, T tag dimensions.
"""

import jax
import jax.numpy as jnp

from solo_jax.losses.instance_means import pair_distances, squared_distances


def pull_loss(
  tags: jax.Array, means: jax.Array, weights: jax.Array
) -> jax.Array:
  """Returns the loss that pulls tags to their instance's mean, un-reduced.

  mean over the pixels of |h - mean|^2 / T. The paper samples a few pixels of
  each object; here a sample is weights that are zero elsewhere, and all pixels
  cost one matrix product.

  Args:
    tags: [Q, T] float.
    means: Mean tag of each instance. [N, T] float.
    weights: Share of each pixel in each instance. [N, Q] float, >= 0.

  Returns:
    Loss per instance, 0 for one without pixels. [N] float32.
  """
  distances = squared_distances(tags, means)
  size = jnp.maximum(jnp.sum(weights, axis=1), 1e-6)
  return jnp.sum(weights * distances, axis=1) / size / tags.shape[1]


def push_loss(means: jax.Array, valid: jax.Array) -> jax.Array:
  """Returns the loss that pushes the means of an image's instances apart.

  Half the mean over unordered pairs of exp(-|m_i - m_j|^2), as in the authors'
  code; 0 with fewer than two instances.

  Args:
    means: [N, T] float.
    valid: [N] bool.

  Returns:
    [] float32.

  Examples:
    >>> import jax.numpy as jnp
    >>> valid = jnp.array([True, True])
    >>> near = push_loss(jnp.array([[0.0], [0.0]]), valid)
    >>> far = push_loss(jnp.array([[0.0], [9.0]]), valid)
    >>> round(float(near), 3), round(float(far), 3)
    (0.5, 0.0)
  """
  pairs = jnp.triu(valid[:, None] & valid[None, :], k=1)
  similarity = jnp.exp(-pair_distances(means))
  total = jnp.sum(jnp.where(pairs, similarity, 0.0))
  return 0.5 * total / jnp.maximum(jnp.sum(pairs), 1)
