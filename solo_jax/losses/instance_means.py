"""Means over the pixels of instances, and distances, by matrix products.

Shape letters: B images, N instances, Q pixels (h * w, flattened), T tag
dimensions.
"""

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.losses.chunks import (
  get_chunk,
  num_chunks,
  pad_to_chunks,
  put_chunk,
)


@jax.custom_vjp
def instance_means(
  values: jax.Array, masks: types.PackedMasks, valid: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the mean of a map over the pixels of each instance.

  A pixel may belong to several instances. Masks are unpacked one chunk at a
  time, again in the backward pass, and not beyond the last valid instance of an
  image, so that no [N, Q] float array exists.

  Args:
    values: [B, Q, T] float.
    masks: [B, N] masks of Q pixels.
    valid: Instances to average over; others have a mean and a weight of 0. [B,
      N] bool.

  Returns:
    Means weighted by coverage, 0 for an instance without pixels,
    [B, N, T] float32; and the total weight of each instance, [B, N] float32,
    without gradient.
  """
  values = values.astype(jnp.float32)

  def image_means(inputs):
    values, masks, valid = inputs
    # Centred on their mean, so that a common offset does not cost precision.
    origin = jnp.mean(values, axis=0)
    centered = values - origin

    def add_chunk(i, carry):
      weights = get_chunk(masks, i).unpack_flat()
      weights *= get_chunk(valid, i)[:, None]
      size = jnp.sum(weights, axis=1)
      means = (weights @ centered) / jnp.maximum(size, 1e-6)[:, None]
      means = jnp.where(size[:, None] > 0, means + origin, 0.0)
      return put_chunk(carry, (means, size), i)

    zeros = jnp.zeros((valid.shape[0], values.shape[1])), jnp.zeros(valid.shape)
    return jax.lax.fori_loop(0, num_chunks(valid), add_chunk, zeros)

  num_instances = valid.shape[1]
  means, size = jax.lax.map(
    image_means, (values, *pad_to_chunks((masks, valid)))
  )
  return means[:, :num_instances], size[:, :num_instances]


def _means_forward(values, masks, valid):
  means, size = instance_means(values, masks, valid)
  # Only the type of the values is needed; an empty array carries it.
  return (means, size), (values[:0], masks, valid, size)


def _means_backward(saved, cotangents):
  values, masks, valid, size = saved
  by_means, _ = cotangents
  by_sums = by_means / jnp.maximum(size, 1e-6)[..., None]
  by_sums *= (size > 0)[..., None]
  num_pixels = values.shape[1]

  def image_gradient(inputs):
    by_sums, masks, valid = inputs

    def add_chunk(i, total):
      weights = get_chunk(masks, i).unpack_flat()
      weights *= get_chunk(valid, i)[:, None]
      return total + weights.T @ get_chunk(by_sums, i)

    zeros = jnp.zeros((num_pixels, by_sums.shape[1]))
    return jax.lax.fori_loop(0, num_chunks(valid), add_chunk, zeros)

  by_values = jax.lax.map(
    image_gradient, pad_to_chunks((by_sums, masks, valid))
  )
  return by_values.astype(values.dtype), None, None


instance_means.defvjp(_means_forward, _means_backward)


def squared_distances(embedding: jax.Array, centers: jax.Array) -> jax.Array:
  """Returns |e_q - c_n|^2 by one matrix product, without [N, Q, T].

  Args:
    embedding: [Q, T] float.
    centers: [N, T] float.

  Returns:
    [N, Q] float32, >= 0.
  """
  # |e|^2 - 2 e.c + |c|^2 cancels; a common origin keeps the terms small.
  embedding = embedding.astype(jnp.float32)
  origin = jax.lax.stop_gradient(jnp.mean(embedding, axis=0))
  embedding, centers = embedding - origin, centers - origin
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
  """Returns |m_i - m_j|^2 by differences: exact, for few rows.

  Args:
    means: [N, T] float.

  Returns:
    [N, N] float32, >= 0.
  """
  means = means.astype(jnp.float32)
  return jnp.sum((means[:, None] - means[None]) ** 2, axis=-1)
