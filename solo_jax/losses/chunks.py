"""Chunks of instances, so that no float array holds all masks of an image.

Shape letters: B images, N instances, n instances of a chunk (CHUNK), Q pixels
(h * w, flattened).
"""

from typing import Any

import jax
import jax.numpy as jnp

# Instances computed at once. Valid ones come first, so images with few
# objects need few chunks, and no [N, Q] float array outlives its chunk.
CHUNK = 16


def num_chunks(valid: jax.Array) -> jax.Array:
  """Returns the number of chunks up to the last valid instance.

  Args:
    valid: Valid of the instances of one image. [N] bool.

  Returns:
    [] int32.
  """
  position = jnp.arange(1, valid.shape[0] + 1)
  last = jnp.max(jnp.where(valid, position, 0), initial=0)
  return (last + CHUNK - 1) // CHUNK


def pad_to_chunks(tree: Any) -> Any:
  """Returns arrays padded with zeros along axis 1 to whole chunks."""

  def pad(x):
    widths = [(0, 0)] * x.ndim
    widths[1] = (0, -x.shape[1] % CHUNK)
    return jnp.pad(x, widths)

  return jax.tree.map(pad, tree)


def get_chunk(tree: Any, index: jax.Array) -> Any:
  """Returns a chunk of rows of an image's instances."""
  return jax.tree.map(
    lambda x: jax.lax.dynamic_slice_in_dim(x, index * CHUNK, CHUNK), tree
  )


def put_chunk(tree: Any, rows: Any, index: jax.Array) -> Any:
  """Writes a chunk of rows."""
  return jax.tree.map(
    lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, index * CHUNK, 0),
    tree,
    rows,
  )
