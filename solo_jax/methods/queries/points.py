"""Reads maps at points, and chooses points where a mask is uncertain.

Points are (x, y) in [0, 1], shares of width and height; a pixel's value is at
its centre. Shape letters: B images, N instances, P points, R maps, h, w size.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.losses.chunks import CHUNK, get_chunk
from solo_jax.nn.bilinear import corners, sample_points


def read_points(
  maps: jax.Array, index: jax.Array, points: jax.Array
) -> jax.Array:
  """Returns maps at points, bilinear, with zeros around them.

  Each group of points has its own map; maps are not copied.

  Args:
    maps: [R, h, w] float.
    index: Map of each group of points. [...] int.
    points: [..., P, 2] float32; no gradient passes to them.

  Returns:
    [..., P] float32.
  """
  height, width = maps.shape[1:]
  flat = maps.reshape(-1)
  start = index[..., None] * (height * width)
  values = [
    weight * jnp.take(flat, start + row * width + column, mode="clip")
    for row, column, weight in corners(
      _in_cells(points, (height, width)), (height, width)
    )
  ]
  return functools.reduce(jnp.add, values)


def read_shared_points(maps: jax.Array, points: jax.Array) -> jax.Array:
  """Returns all maps of an image at the same points.

  Args:
    maps: [Q, h, w] float.
    points: [P, 2] float32.

  Returns:
    [P, Q] float32.
  """
  # As the last axis, maps are adjacent in memory: one read fetches a pixel of
  # all.
  return sample_points(
    maps.transpose(1, 2, 0), _in_cells(points, maps.shape[1:])
  )


def read_mask_points(masks: types.PackedMasks, points: jax.Array) -> jax.Array:
  """Returns mask targets at points, bilinear, without unpacking them.

  Args:
    masks: [B, N] masks of [h, w].
    points: Of all masks of an image, [B, 1, P, 2], or of each, [B, N, P, 2].

  Returns:
    Between 0 and 1, fractions at edges and in coverage. [B, N, P] float32.
  """
  values = [
    weight * masks.read(row, column)
    for row, column, weight in corners(
      _in_cells(points, masks.size), masks.size
    )
  ]
  return functools.reduce(jnp.add, values)


def _in_cells(points: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Converts shares of a map of (h, w) to positions in cells."""
  height, width = size
  return points * jnp.array([width, height], points.dtype)


def uncertain_points(
  maps: jax.Array,
  index: jax.Array,
  candidates: jax.Array,
  others: jax.Array,
  num_points: int,
) -> jax.Array:
  """Returns the points where a mask is least certain (PointRend, section 3).

  Args:
    maps: Logits. [R, h, w] float.
    index: Map of each group of points. [...] int.
    candidates: [..., more than P, 2] float32.
    others: Points that are always taken. [..., n, 2] float32.
    num_points: P, with the others.

  Returns:
    The P - n candidates of the smallest absolute logits, in their order, then
    the others. [..., P, 2] float32 without gradient.
  """
  logits = read_points(jax.lax.stop_gradient(maps), index, candidates)
  kept = num_points - others.shape[-2]
  order = least(jnp.abs(logits), kept)
  chosen = jnp.take_along_axis(candidates, order[..., None], axis=-2)
  return jnp.concatenate([chosen, others], axis=-2)


def uncertain_points_of_valid(
  maps: jax.Array,
  index: jax.Array,
  valid: jax.Array,
  draw: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
  num_points: int,
) -> jax.Array:
  """Returns `uncertain_points` of the valid groups, and costs no more.

  Drawing and choosing take most of the time of a loss at points, so groups that
  only pad a batch are left out, in chunks.

  Args:
    maps: Logits. [R, h, w] float.
    index: Map of each group of points. [N] int.
    valid: Groups to choose points for. [N] bool.
    draw: Numbers of groups, [n] int -> their candidates, [n, more than P, 2],
      and other points, [n, rest, 2] float32.
    num_points: P.

  Returns:
    [N, P, 2] float32 without gradient; zeros where not valid.
  """
  number = len(index)
  count = jnp.sum(valid)
  order = jnp.argsort(~valid, stable=True)
  order = jnp.where(jnp.arange(number) < count, order, number)
  order = jnp.pad(order, (0, -number % CHUNK), constant_values=number)
  chunks = (count + CHUNK - 1) // CHUNK
  maps = jax.lax.stop_gradient(maps)

  def choose(i, chosen):
    rows = get_chunk(order, i)
    group = jnp.minimum(rows, number - 1)
    found = uncertain_points(maps, index[group], *draw(group), num_points)
    return chosen.at[rows].set(found, mode="drop")

  chosen = jnp.zeros((number, num_points, 2), jnp.float32)
  return jax.lax.fori_loop(0, chunks, choose, chosen)


def least(values: jax.Array, count: int) -> jax.Array:
  """Returns the smallest values without sorting them.

  `jax.lax.top_k` of thousands of values sorts: on CPU it takes four times as
  long, and longer than the rest of the loss.

  Args:
    values: From 0. [..., n] float32.
    count: Number of values.

  Returns:
    Their indices, increasing; of values equal to the largest one, the first.
    [..., count] int32.
  """
  # For numbers >= 0, bits increase with the value: bit by bit, this finds the
  # largest limit below which there are fewer than `count` values.
  bits = jax.lax.bitcast_convert_type(values, jnp.int32)

  def try_bit(i, limit):
    higher = limit | (1 << (30 - i))
    number = jnp.sum(bits < higher, axis=-1, keepdims=True)
    return jnp.where(number < count, higher, limit)

  limit = jnp.zeros((*values.shape[:-1], 1), jnp.int32)
  limit = jax.lax.fori_loop(0, 31, try_bit, limit)
  rank = jnp.cumsum(bits <= limit, axis=-1).reshape(-1, values.shape[-1])
  places = jnp.arange(1, count + 1)
  found = jax.vmap(lambda rank: jnp.searchsorted(rank, places))(rank)
  return found.reshape(*values.shape[:-1], count).astype(jnp.int32)


def random_points(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Returns random points, uniform on a grid of 65536 places per axis.

  Args:
    key: Key of the draw.
    shape: Shape of the points.

  Returns:
    [*shape, 2] float32 in (0, 1).
  """
  bits = jax.random.bits(key, shape, jnp.uint32)  # one number for x and y
  halves = jnp.stack([bits >> 16, bits & 0xFFFF], axis=-1)
  return (halves.astype(jnp.float32) + 0.5) / 2**16
