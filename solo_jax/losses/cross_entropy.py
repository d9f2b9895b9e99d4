"""Cross-entropy of logits, softmax and binary."""

import jax
import jax.numpy as jnp


def softmax_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns -log softmax of the true class, un-reduced.

  Args:
    logits: [..., K] float.
    labels: 0..K-1. [...] int32.

  Returns:
    [...] float32.

  Examples:
    >>> import jax.numpy as jnp
    >>> logits = jnp.log(jnp.array([0.5, 0.25, 0.25]))
    >>> round(float(jnp.exp(-softmax_cross_entropy(logits, jnp.array(0)))), 3)
    0.5
  """
  logs = jax.nn.log_softmax(logits.astype(jnp.float32))
  return -jnp.take_along_axis(logs, labels[..., None], axis=-1)[..., 0]


def sigmoid_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Returns the binary cross-entropy of every logit, un-reduced.

  Args:
    logits: [...] float.
    targets: In [0, 1]. [...] float.

  Returns:
    [...] float32.
  """
  logits = logits.astype(jnp.float32)
  # softplus has its own derivative: that of max and abs is wrong at 0.
  return jax.nn.softplus(logits) - logits * targets
