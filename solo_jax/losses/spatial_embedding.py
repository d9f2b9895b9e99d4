"""Membership of pixels in instances from embedding, centre and bandwidth.

Follows Neven et al., https://arxiv.org/abs/1906.11109, section 3: a pixel
belongs to an instance to the degree that its embedding is within the instance's
bandwidth of the instance's centre. Shape letters: N instances, Q pixels, T tag
dimensions.
"""

import jax
import jax.numpy as jnp

from solo_jax.losses.dice import dice_loss
from solo_jax.losses.instance_means import squared_distances
from solo_jax.losses.lovasz import lovasz_hinge

# Logit of an embedding that hits the centre: probability 0.98.
SHARPNESS = 4.0


def membership(
  embedding: jax.Array, centers: jax.Array, log_precision: jax.Array
) -> jax.Array:
  """Returns the probability that each pixel belongs to each instance.

  sigmoid(4 (1 - p d^2)), with d the distance to the centre and p the precision
  1 / radius^2: 0.5 at the radius.

  Differs from the reference, exp(-d^2 p): saturates inside too, so that a
  pixel does not have to hit the centre exactly to count fully.

  Args:
    embedding: [Q, T] float.
    centers: [N, T] float.
    log_precision: log(1 / radius^2). [N] float.

  Returns:
    [N, Q] float32 in [0, 1].

  Examples:
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> embedding = jnp.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    >>> center, log_precision = jnp.array([[0.0, 0.0]]), jnp.array([0.0])
    >>> probs = membership(embedding, center, log_precision)
    >>> print(np.asarray(probs).round(2))
    [[0.98 0.5  0.  ]]
  """
  precision = jnp.exp(log_precision.astype(jnp.float32))[:, None]
  distances = squared_distances(embedding, centers)
  return jax.nn.sigmoid(SHARPNESS * (1 - precision * distances))


def mask_loss(
  probs: jax.Array, weights: jax.Array, *, kind: str
) -> tuple[jax.Array, jax.Array]:
  """Returns the loss between predicted masks and targets, un-reduced.

  Args:
    probs: [N, Q] float in [0, 1].
    weights: Target coverage. [N, Q] float in [0, 1].
    kind: 'dice' takes soft targets as they are; 'lovasz' is the Lovasz hinge
      on 2 p - 1 against targets above 0.5, as published.

  Returns:
    Loss per instance, [N] float32, and the Jaccard index of the masks above 0.5
    (without gradient), [N] float32.

  Raises:
    ValueError: If `kind` is neither.
  """
  if kind == "dice":
    loss = dice_loss(probs[:, None], weights[:, None])
  elif kind == "lovasz":
    loss = lovasz_hinge(2 * probs - 1, weights > 0.5)
  else:
    raise ValueError(f"kind must be 'dice' or 'lovasz', not {kind!r}")
  return loss, jaccard(probs, weights)


def jaccard(probs: jax.Array, weights: jax.Array) -> jax.Array:
  """Returns the Jaccard index of masks thresholded at 0.5.

  Args:
    probs: [N, Q] float.
    weights: [N, Q] float.

  Returns:
    In [0, 1], without gradient, 0 where both are empty. [N] float32.
  """
  found, true = probs > 0.5, weights > 0.5
  shared = jnp.sum(found & true, axis=1, dtype=jnp.float32)
  either = jnp.sum(found | true, axis=1, dtype=jnp.float32)
  return shared / jnp.maximum(either, 1.0)


def spread_loss(
  log_precision: jax.Array, means: jax.Array, weights: jax.Array
) -> jax.Array:
  """Returns the spread of the bandwidth within an instance (eq. 10).

  At test time the bandwidth is averaged over only some of the pixels.

  Args:
    log_precision: [Q] float.
    means: Mean of each instance. [N] float.
    weights: [N, Q] float.

  Returns:
    Mean squared difference from the mean, per instance. [N] float32.
  """
  distances = (log_precision[None] - means[:, None]) ** 2
  size = jnp.maximum(jnp.sum(weights, axis=1), 1e-6)
  return jnp.sum(weights * distances, axis=1) / size
