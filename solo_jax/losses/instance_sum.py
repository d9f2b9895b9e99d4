"""Sums a loss over instances in chunks, with its gradient, in one pass.

Every loss on masks goes through here: the SOLOs' pairs of cell and instance
(methods/grid/masks.py), the instances of associative embedding, and the pairs
of query and instance of Mask2Former.

Shape letters: B images, N instances, R rows (predictions, each with an instance
as its target), n rows of a chunk, h and w mask resolution.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from solo_jax.losses.chunks import (
  get_chunk,
  num_chunks,
  pad_to_chunks,
  put_chunk,
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def instance_sum(
  loss: Callable[[Any, Any, Any], tuple[jax.Array, jax.Array]],
  pixels: Any,
  rows: Any,
  masks: Any,
  instance: jax.Array,
  valid: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Returns the sum of a loss over the rows of each image.

  The loss of a row must depend only on that row: its gradient is then computed
  together with it, and nothing has to be kept or recomputed.

  Args:
    loss: (pixels of an image, n rows, the n masks that are their targets) ->
      (loss of each [n], a figure about each [n] that has no gradient).
    pixels: Tree of maps. [B, ...] float.
    rows: Tree of rows. [B, R, ...] float.
    masks: [B, N] masks of [h, w], or a tree of arrays with a row for each
      instance, [B, N, ...]; no gradient.
    instance: Instance whose mask is the target of each row. [B, R] int32.
    valid: False for padding and rows to leave out. [B, R] bool.

  Returns:
    The sum of each image, [B] float32, and the figures, 0 where not valid,
    [B, R] float32.
  """
  return _sum_and_gradients(loss, pixels, rows, masks, instance, valid)[0]


def _sum_and_gradients(loss, pixels, rows, masks, instance, valid):
  num_rows = valid.shape[1]

  def chunk_sum(pixels, rows, masks, valid):
    values, figures = loss(pixels, rows, masks)
    return jnp.sum(jnp.where(valid, values, 0.0)), figures

  gradient_fn = jax.value_and_grad(chunk_sum, argnums=(0, 1), has_aux=True)

  def image_sum(inputs):
    pixels, masks, *padded = inputs
    rows, _, valid = padded

    def add_chunk(i, carry):
      total, figures, by_pixels, by_rows = carry
      rows, instance, valid = get_chunk(padded, i)
      targets = jax.tree.map(lambda x: x[instance], masks)
      (value, figure), gradients = gradient_fn(pixels, rows, targets, valid)
      figure = jnp.where(valid, figure, 0.0).astype(jnp.float32)
      return (
        total + value,
        put_chunk(figures, figure, i),
        jax.tree.map(
          lambda x, y: x + y.astype(jnp.float32), by_pixels, gradients[0]
        ),
        put_chunk(by_rows, gradients[1], i),
      )

    # Chunks are summed in float32 also where maps are bfloat16.
    zeros = (
      jnp.zeros((), jnp.float32),
      jnp.zeros(valid.shape, jnp.float32),
      jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), pixels),
      jax.tree.map(jnp.zeros_like, rows),
    )
    return jax.lax.fori_loop(0, num_chunks(valid), add_chunk, zeros)

  total, figures, by_pixels, by_rows = jax.lax.map(
    image_sum, (pixels, masks, *pad_to_chunks((rows, instance, valid)))
  )
  by_pixels = jax.tree.map(lambda x, y: x.astype(y.dtype), by_pixels, pixels)
  by_rows = jax.tree.map(lambda x: x[:, :num_rows], by_rows)
  return (total, figures[:, :num_rows]), (by_pixels, by_rows)


def _backward(loss, gradients, cotangents):
  del loss
  by_total, _ = cotangents  # figures have no gradient

  def scale(x):
    return (by_total.reshape(-1, *[1] * (x.ndim - 1)) * x).astype(x.dtype)

  by_pixels, by_rows = jax.tree.map(scale, gradients)
  return by_pixels, by_rows, None, None, None


instance_sum.defvjp(_sum_and_gradients, _backward)
