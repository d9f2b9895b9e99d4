"""The Lovasz hinge: a convex surrogate of the Jaccard index of a binary mask.

Follows https://arxiv.org/abs/1512.07797 and
https://arxiv.org/abs/1705.08790, algorithm 1. Shape letters: Q pixels.
"""

import jax
import jax.numpy as jnp


def lovasz_hinge(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Returns the Lovasz hinge of each mask, un-reduced.

  The sum of the hinge errors 1 - logit * sign in decreasing order, each
  weighted by what its pixel adds to the Jaccard loss of those before it. The
  order and the weights are constants of the gradient.

  Args:
    logits: Positive for foreground. [..., Q] float.
    targets: [..., Q] bool.

  Returns:
    Loss per mask, >= 0; 0 for Q = 0. [...] float32.

  Examples:
    >>> import jax.numpy as jnp
    >>> targets = jnp.array([True, True, False])
    >>> logits = jnp.array([2.0, -1.0, -2.0])
    >>> float(lovasz_hinge(logits, targets))
    1.0
  """
  logits = logits.astype(jnp.float32)
  signs = jnp.where(targets, 1.0, -1.0)
  errors = 1 - logits * signs
  order = jnp.argsort(-jax.lax.stop_gradient(errors), axis=-1)
  errors = jnp.take_along_axis(errors, order, axis=-1)
  inside = jnp.take_along_axis(targets, order, axis=-1).astype(jnp.float32)
  return jnp.sum(jax.nn.relu(errors) * _jaccard_steps(inside), axis=-1)


def _jaccard_steps(inside: jax.Array) -> jax.Array:
  """Returns the increments of the Jaccard loss along sorted pixels."""
  total = jnp.sum(inside, axis=-1, keepdims=True)
  intersection = total - jnp.cumsum(inside, axis=-1)
  union = total + jnp.cumsum(1 - inside, axis=-1)
  jaccard = 1 - intersection / jnp.maximum(union, 1.0)
  return jnp.diff(jaccard, axis=-1, prepend=0.0)
