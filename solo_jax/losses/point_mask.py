"""Losses of masks that are sampled at points, one value per mask.

Shape letters: P points.
"""

import jax
import jax.numpy as jnp

from solo_jax.losses.cross_entropy import sigmoid_cross_entropy


def point_mask_losses(
  logits: jax.Array, targets: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns cross-entropy and dice loss of each mask from its points.

  The dice loss is 1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1), as in
  Mask2Former (https://arxiv.org/abs/2112.01527); its denominator is not
  squared, unlike SOLO's.

  Args:
    logits: [..., P] float.
    targets: In [0, 1]. [..., P] float.

  Returns:
    Cross-entropy, a mean over the points, and dice loss. [...] float32 each.
  """
  logits, targets = logits.astype(jnp.float32), targets.astype(jnp.float32)
  entropy = jnp.mean(sigmoid_cross_entropy(logits, targets), axis=-1)
  probs = jax.nn.sigmoid(logits)
  overlap = jnp.sum(probs * targets, axis=-1)
  size = jnp.sum(probs, axis=-1) + jnp.sum(targets, axis=-1)
  return entropy, 1 - (2 * overlap + 1) / (size + 1)


def pairwise_point_mask_losses(
  logits: jax.Array, targets: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns both losses of every mask with every target.

  Args:
    logits: Logits of q masks at the same points. [..., P, q] float32.
    targets: Values of n targets, in [0, 1]. [..., n, P] float32.

  Returns:
    As `point_mask_losses`, [..., n, q] float32 each.
  """

  def product(x):  # in full precision: costs are compared with each other
    return jnp.matmul(targets, x, precision=jax.lax.Precision.HIGHEST)

  num_points = logits.shape[-2]
  # To 1e-7; `jax.nn.softplus`, exact near 0, takes four times as long on CPU.
  softplus = jnp.maximum(logits, 0) + jnp.log(1 + jnp.exp(-jnp.abs(logits)))
  entropy = jnp.sum(softplus, axis=-2)[..., None, :]
  entropy = (entropy - product(logits)) / num_points
  probs = jax.nn.sigmoid(logits)
  size = jnp.sum(probs, axis=-2)[..., None, :]
  size += jnp.sum(targets, axis=-1)[..., None]
  return entropy, 1 - (2 * product(probs) + 1) / (size + 1)
