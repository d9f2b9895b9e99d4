"""Multi-scale deformable attention (https://arxiv.org/abs/2010.04159).

Each query samples a few positions of each level of a pyramid, bilinearly, and
sums the samples with weights that it also predicts.

Shape letters: B images, S pixels of all levels, level after level and row by
row, Q queries, h heads of D channels, L levels, P points per level.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Sizes = tuple[tuple[int, int], ...]


class DeformableAttention(nn.Module):
  """Attention whose queries predict where they look.

  Parameters, all dense with bias: 'offsets' and 'weights' of the query, 'value'
  of the pyramid, 'out' of the result.

  Attributes:
    num_heads: Heads; they share the channels.
    num_points: P.
    dtype: Type of values and result; places, weights and sums are float32.
  """

  num_heads: int
  num_points: int = 4
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, query: jax.Array, reference: np.ndarray, pyramid: jax.Array, sizes
  ) -> jax.Array:
    """Returns the attended queries.

    Args:
      query: [B, Q, C] float, C a multiple of the heads.
      reference: Place (x, y) of each query, as a share of width and height.
        [Q, 2] float32.
      pyramid: The pyramid. [B, S, C] float.
      sizes: (height, width) of each level.

    Returns:
      [B, Q, C].
    """
    *shape, channels = query.shape
    num_levels = len(sizes)
    shape = (*shape, self.num_heads, num_levels, self.num_points)
    count = self.num_heads * num_levels * self.num_points
    zeros = nn.initializers.zeros
    # float32: an offset of bfloat16 would be off by up to 0.03 of 4 pixels.
    offsets = nn.Dense(
      2 * count,
      kernel_init=zeros,
      bias_init=functools.partial(
        star_offsets, self.num_heads, num_levels, self.num_points
      ),
      name="offsets",
    )(query.astype(jnp.float32)).reshape(*shape, 2)
    weights = nn.Dense(count, kernel_init=zeros, name="weights")(
      query.astype(jnp.float32)
    )
    weights = jax.nn.softmax(weights.reshape(*shape[:3], -1)).reshape(shape)
    width_height = np.asarray(sizes, np.float32)[:, None, ::-1]  # [L, 1, 2]
    locations = reference[:, None, None, None] + offsets / width_height
    dense = functools.partial(
      nn.Dense, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform()
    )
    values = dense(channels, name="value")(pyramid)
    values = values.reshape(*values.shape[:2], self.num_heads, -1)
    result = deformable_attention(values, locations, weights, tuple(sizes))
    return dense(channels, name="out")(result.astype(self.dtype))


def star_offsets(
  num_heads: int,
  num_levels: int,
  num_points: int,
  key: jax.Array,
  shape: Sequence[int],
  dtype: jnp.dtype = jnp.float32,
) -> jax.Array:
  """Returns the first offsets: each head looks along its own direction.

  Args:
    num_heads: Heads; their directions go around the circle.
    num_levels: L; all levels get the same offsets.
    num_points: P, at 1, 2, ... pixels along the direction, by the larger of
      the two coordinates.
    key: Not used.
    shape: (heads * L * P * 2,).
    dtype: Type of the result.

  Returns:
    (x, y) in pixels of the level, order (head, level, point, coordinate).
  """
  del key
  angle = 2 * np.pi / num_heads * np.arange(num_heads)
  direction = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
  direction /= np.abs(direction).max(-1, keepdims=True)
  points = np.arange(1, num_points + 1)[:, None]
  offsets = np.broadcast_to(
    direction[:, None, None] * points, (num_heads, num_levels, num_points, 2)
  )
  return jnp.asarray(offsets.reshape(shape), dtype)


def reference_points(sizes: Sizes) -> np.ndarray:
  """Returns the centres of the pixels of all levels.

  Args:
    sizes: (height, width) of each level.

  Returns:
    (x, y) as shares of width and height. [S, 2] float32.
  """
  centers = [
    np.meshgrid(
      (np.arange(width, dtype=np.float32) + np.float32(0.5)) / width,
      (np.arange(height, dtype=np.float32) + np.float32(0.5)) / height,
    )
    for height, width in sizes
  ]
  return np.concatenate(
    [np.stack(xy, axis=-1).reshape(-1, 2) for xy in centers]
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def deformable_attention(
  values: jax.Array, locations: jax.Array, weights: jax.Array, sizes: Sizes
) -> jax.Array:
  """Returns weighted sums of bilinear samples of a pyramid.

  A pixel has its centre at half its width; each of the four corners of a
  sample that lies outside of its level counts as zero. One point after the
  other is added, so that no copy of all samples is ever held, neither here nor
  in the backward pass.

  Args:
    values: [B, S, h, D] float.
    locations: (x, y), as shares of width and height of the level.
      [B, Q, h, L, P, 2] float32.
    weights: Weights of the samples. [B, Q, h, L, P] float32.
    sizes: (height, width) of each level.

  Returns:
    [B, Q, h * D] float32.

  Raises:
    ValueError: If the sizes do not fit the values.
  """
  if sum(h * w for h, w in sizes) != values.shape[1]:
    raise ValueError(
      f"levels of {sizes} have {sum(h * w for h, w in sizes)} pixels, values "
      f"{values.shape[1]}"
    )
  corner_weights, rows = _corners(values.shape, sizes, locations, weights)
  pixels = values.reshape(-1, values.shape[-1])

  def add_point(total, point):
    samples = sum(
      _read(pixels, rows) * weights[:, None]
      for rows, weights in zip(*point, strict=True)
    )
    return total + samples, None

  total = jnp.zeros((rows.shape[-1], pixels.shape[1]))
  total, _ = jax.lax.scan(add_point, total, (rows, corner_weights))
  return total.reshape(*locations.shape[:2], -1)


def _forward(values, locations, weights, sizes):
  inputs = (values, locations, weights)
  return deformable_attention(*inputs, sizes), inputs


def _backward(sizes, inputs, gradient):
  values, locations, weights = inputs
  corner_weights, corners_backward, rows = jax.vjp(
    functools.partial(_corners, values.shape, sizes),
    locations,
    weights,
    has_aux=True,
  )
  pixels = values.reshape(-1, values.shape[-1])
  gradient = gradient.reshape(-1, pixels.shape[1])
  # A product with ones: XLA's reduction over the last axis is slower on CPU.
  ones = jnp.ones(pixels.shape[1])

  def add_point(total, point):
    by_weights = []
    for rows, weights in zip(*point, strict=True):
      by_weights.append((_read(pixels, rows) * gradient) @ ones)
      total = total.at[rows].add(weights[:, None] * gradient, mode="drop")
    return total, jnp.stack(by_weights)

  total, by_weights = jax.lax.scan(
    add_point, jnp.zeros(pixels.shape), (rows, corner_weights)
  )
  return (
    total.reshape(values.shape).astype(values.dtype),
    *corners_backward(by_weights),
  )


deformable_attention.defvjp(_forward, _backward)


def _read(pixels: jax.Array, rows: jax.Array) -> jax.Array:
  return jnp.take(pixels, rows, axis=0, mode="clip").astype(jnp.float32)


def _corners(
  shape: tuple[int, ...],
  sizes: Sizes,
  locations: jax.Array,
  weights: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Returns what each sample reads from the values, as (B, S, h) rows.

  Args:
    shape: Shape of the values.
    sizes: See `deformable_attention`.
    locations: See `deformable_attention`.
    weights: See `deformable_attention`.

  Returns:
    Weight of each corner, 0 outside of the level, and its row.
    [L * P, 4, B * Q * h] float32 and int32.
  """
  batch, num_pixels, num_heads, _ = shape
  start, rows, corner_weights = 0, [], []
  image = np.arange(batch, dtype=np.int32)[:, None, None, None] * num_pixels
  head = np.arange(num_heads, dtype=np.int32)[:, None]
  for level, size in enumerate(sizes):
    position = [  # y, x in pixel indices
      locations[..., level, :, 1 - axis] * size[axis] - 0.5 for axis in (0, 1)
    ]
    low = [jax.lax.stop_gradient(jnp.floor(p)) for p in position]
    share = [  # of the lower and the upper corner
      (1 - (p - floor), p - floor)
      for p, floor in zip(position, low, strict=True)
    ]
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
      row, factor = image + start, weights[..., level, :]
      for axis, side in enumerate(corner):
        index = low[axis].astype(jnp.int32) + side
        is_inside = (index >= 0) & (index < size[axis])
        factor *= jnp.where(is_inside, share[axis][side], 0.0)
        stride = size[1] if axis == 0 else 1
        row += jnp.clip(index, 0, size[axis] - 1) * stride
      rows.append(row * num_heads + head)
      corner_weights.append(factor)
    start += size[0] * size[1]

  def by_point(x):  # L * 4 of [B, Q, h, P]
    x = jnp.stack(x).reshape(len(sizes), 4, *x[0].shape)
    return x.transpose(0, 5, 1, 2, 3, 4).reshape(-1, 4, x[0, 0, ..., 0].size)

  return by_point(corner_weights), by_point(rows)
