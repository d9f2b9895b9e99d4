"""Sigmoid focal loss on logits (https://arxiv.org/abs/1708.02002, eq. 5)."""

import jax
import jax.numpy as jnp


def sigmoid_focal_loss(
  logits: jax.Array, targets: jax.Array, *, alpha: float, gamma: float
) -> jax.Array:
  """Returns the focal loss of every logit, un-reduced.

  FL = -alpha_t (1 - p_t)^gamma log(p_t), with p_t the probability given to
  the true answer. Written with log-sigmoids, so that logits of any size give a
  finite value and gradient.

  Args:
    logits: [...] float.
    targets: 1 for the foreground class, 0 otherwise. [...] bool or float.
    alpha: Weight of the foreground answers; 1 - alpha weighs the rest.
    gamma: Focusing exponent.

  Returns:
    Loss per logit, >= 0. [...] float32.

  Examples:
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> logits = jnp.array([4.0, 0.0, -4.0])
    >>> targets = jnp.array([1.0, 1.0, 1.0])
    >>> loss = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2.0)
    >>> print(np.asarray(loss).round(3))
    [0.    0.043 0.969]
  """
  logits = logits.astype(jnp.float32)
  targets = targets.astype(jnp.float32)
  # log p_t and log (1 - p_t), from the logit of the true answer.
  true_logits = jnp.where(targets > 0, logits, -logits)
  log_p = jax.nn.log_sigmoid(true_logits)
  # (1 - p)^gamma as exp(gamma log(1 - p)): its gradient is finite at p = 1.
  focus = jnp.exp(gamma * jax.nn.log_sigmoid(-true_logits))
  weight = jnp.where(targets > 0, alpha, 1 - alpha)
  return -weight * focus * log_p
