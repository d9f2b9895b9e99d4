"""Sums a loss over instances in chunks, with its gradient, in one pass.

Shape letters: B images, N instances, Q pixels, n instances of a chunk.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.losses.instance_means import (
  chunk_weights,
  get_chunk,
  num_chunks,
  pad_to_chunks,
  put_chunk,
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def instance_sum(
  loss: Callable[[Any, Any, jax.Array], tuple[jax.Array, jax.Array]],
  pixels: Any,
  instances: Any,
  masks: types.PackedMasks,
  valid: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Sums a loss of each instance over the instances of each image.

  The loss of an instance must depend on its own row only: then its gradient is
  known as soon as it is, and nothing has to be kept or computed twice.

  Args:
    loss: (pixels of an image, rows of n instances, weights [n, Q] float32) ->
      (loss of each [n], a figure about each [n] that has no gradient).
    pixels: Tree of maps. [B, Q, ...] float.
    instances: Tree of rows. [B, N, ...] float.
    masks: [B, N] masks of Q pixels.
    valid: False for padding and instances to leave out. [B, N] bool.

  Returns:
    The sum of each image, [B] float32, and the figures, 0 where not valid,
    [B, N] float32.
  """
  return _sum_and_gradients(loss, pixels, instances, masks, valid)[0]


def _sum_and_gradients(loss, pixels, instances, masks, valid):
  num_instances = valid.shape[1]

  def image_sum(inputs):
    pixels, instances, masks, valid = inputs

    def chunk_sum(pixels, rows, weights, valid):
      values, figures = loss(pixels, rows, weights)
      return jnp.sum(jnp.where(valid, values, 0.0)), figures

    def add_chunk(i, carry):
      total, figures, by_pixels, by_rows = carry

      rows, is_valid = get_chunk((instances, valid), i)
      (value, figure), gradients = jax.value_and_grad(
        chunk_sum, argnums=(0, 1), has_aux=True
      )(pixels, rows, chunk_weights(masks, i), is_valid)
      figure = jnp.where(is_valid, figure, 0.0).astype(jnp.float32)
      return (
        total + value,
        put_chunk(figures, figure, i),
        jax.tree.map(jnp.add, by_pixels, gradients[0]),
        put_chunk(by_rows, gradients[1], i),
      )

    zeros = (
      jnp.zeros((), jnp.float32),
      jnp.zeros(valid.shape, jnp.float32),
      jax.tree.map(jnp.zeros_like, pixels),
      jax.tree.map(jnp.zeros_like, instances),
    )
    return jax.lax.fori_loop(0, num_chunks(valid), add_chunk, zeros)

  total, figures, by_pixels, by_rows = jax.lax.map(
    image_sum,
    (pixels, *pad_to_chunks((instances, masks, valid))),
  )
  by_rows = jax.tree.map(lambda x: x[:, :num_instances], by_rows)
  return (total, figures[:, :num_instances]), (by_pixels, by_rows)


def _backward(loss, gradients, cotangents):
  del loss
  by_total, _ = cotangents  # figures have no gradient

  def scale(x):
    return (by_total.reshape(-1, *[1] * (x.ndim - 1)) * x).astype(x.dtype)

  by_pixels, by_rows = jax.tree.map(scale, gradients)
  return by_pixels, by_rows, None, None


instance_sum.defvjp(_sum_and_gradients, _backward)
