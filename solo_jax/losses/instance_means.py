"""Means over the pixels of instances, and distances, by matrix products.

Shape letters: B images, N instances, Q pixels (h * w, flattened), T tag
dimensions.
"""

import jax
import jax.numpy as jnp


def unpack_masks(masks: jax.Array, num_pixels: int) -> jax.Array:
  """Turns mask targets into pixel weights.

  Args:
    masks: Packed bits [..., Q / 8] or coverage [..., Q], uint8.
    num_pixels: Q; tells bits from coverage.

  Returns:
    Weights in [0, 1]. [..., Q] float32.

  Raises:
    ValueError: If `masks` is as long as neither.
  """
  if masks.shape[-1] == num_pixels:
    return masks.astype(jnp.float32) / 255
  if masks.shape[-1] * 8 == num_pixels:
    return jnp.unpackbits(masks, axis=-1).astype(jnp.float32)
  raise ValueError(
    f"masks have {masks.shape[-1]} bytes for {num_pixels} pixels; expected "
    f"{num_pixels} (coverage) or {num_pixels // 8} (packed bits)"
  )


def instance_means(
  values: jax.Array, masks: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Averages a map over the pixels of each instance, one image at a time.

  A pixel may belong to several instances. Weights are unpacked again in the
  backward pass, so that no [B, N, Q] float array outlives an image.

  Args:
    values: [B, Q, T] float.
    masks: See `unpack_masks`. [B, N, ...] uint8.

  Returns:
    Means weighted by coverage, 0 for an instance without pixels,
    [B, N, T] float32; and the total weight of each instance, [B, N] float32.
  """

  @jax.checkpoint
  def image_means(inputs):
    values, masks = inputs
    weights = unpack_masks(masks, values.shape[0])  # [N, Q]
    size = jnp.sum(weights, axis=1)
    # Around their own mean the sums lose no digits to a common offset.
    origin = jax.lax.stop_gradient(jnp.mean(values, axis=0))
    sums = weights @ (values - origin).astype(jnp.float32)
    means = sums / jnp.maximum(size, 1e-6)[:, None]
    return jnp.where(size[:, None] > 0, means + origin, 0.0), size

  return jax.lax.map(image_means, (values.astype(jnp.float32), masks))


def squared_distances(embedding: jax.Array, centers: jax.Array) -> jax.Array:
  """Computes |e_q - c_n|^2 by one matrix product, without [N, Q, T].

  Args:
    embedding: [Q, T] float.
    centers: [N, T] float.

  Returns:
    [N, Q] float32, >= 0.
  """
  # |e|^2 - 2 e.c + |c|^2 cancels; a common origin keeps the terms small.
  origin = jax.lax.stop_gradient(jnp.mean(embedding, axis=0))
  embedding = (embedding - origin).astype(jnp.float32)
  centers = (centers - origin).astype(jnp.float32)
  ones = jnp.ones_like(centers[:, :1])
  left = jnp.concatenate(
    [-2 * centers, jnp.sum(centers**2, axis=1, keepdims=True), ones], axis=1
  )
  ones = jnp.ones_like(embedding[:, :1])
  right = jnp.concatenate(
    [embedding, ones, jnp.sum(embedding**2, axis=1, keepdims=True)], axis=1
  )
  product = jnp.einsum(
    "nt,qt->nq", left, right, precision=jax.lax.Precision.HIGHEST
  )
  return jnp.maximum(product, 0.0)


def pair_distances(means: jax.Array) -> jax.Array:
  """Computes |m_i - m_j|^2 by differences: exact, for few rows.

  Args:
    means: [N, T] float.

  Returns:
    [N, N] float32, >= 0.
  """
  means = means.astype(jnp.float32)
  return jnp.sum((means[:, None] - means[None]) ** 2, axis=-1)
