"""Mean shift: samples climb to the modes of the tags' density.

As https://arxiv.org/abs/1708.02551, section 2.2, groups the pixels of a trained
discriminative embedding. Shape letters: Q pixels (h * w, flattened), S samples,
M groups, T tag dimensions.
"""

import jax
import jax.numpy as jnp

from solo_jax.grouping.groups import Groups, Pixels, assign_to_centers


def mean_shift(
  pixels: Pixels,
  *,
  max_groups: int,
  min_pixels: int,
  num_samples: int = 512,
  num_iterations: int = 8,
) -> Groups:
  """Returns the foreground pixels of an image, grouped.

  Samples are spread evenly over the foreground in raster order, so an instance
  with less than 1 / S of its pixels may be missed. Each sample moves to the
  mean of the samples of its category within its radius. Of modes within a
  radius of each other, the one with most samples is kept.

  Args:
    pixels: Pixels of the image; the foreground is grouped.
    max_groups: M.
    min_pixels: Smaller groups are left out.
    num_samples: S.
    num_iterations: Steps per sample.

  Returns:
    The groups by decreasing number of samples.
  """
  foreground = pixels.foreground
  rank = jnp.cumsum(foreground)  # 1, 2, ... along the foreground
  total = rank[-1]
  step = jnp.maximum(total / num_samples, 1.0)
  wanted = jnp.floor(jnp.arange(num_samples) * step).astype(jnp.int32) + 1
  is_sample = wanted <= total
  index = jnp.searchsorted(rank, wanted)  # the pixel of each wanted rank
  index = jnp.minimum(index, foreground.shape[0] - 1)
  points = pixels.embedding[index].astype(jnp.float32)  # [S, T]
  precision = jnp.exp(pixels.log_precision[index])[:, None]
  label = pixels.category[index]
  comparable = (label[:, None] == label[None]) & is_sample[None]

  def near(centers):
    distance = _distances(centers, points)
    return (comparable & (distance * precision < 1)).astype(jnp.float32)

  def climb(_, centers):
    weights = near(centers)
    size = jnp.sum(weights, axis=1, keepdims=True)
    # Accelerators would round embeddings to fewer digits than a radius needs.
    total = jnp.matmul(weights, points, precision=jax.lax.Precision.HIGHEST)
    return jnp.where(size > 0, total / jnp.maximum(size, 1.0), centers)

  modes = jax.lax.fori_loop(0, num_iterations, climb, points)
  density = jnp.where(is_sample, jnp.sum(near(modes), axis=1), 0.0)
  density, order = jax.lax.top_k(density, num_samples)
  modes, label, precision = modes[order], label[order], precision[order]

  close = _distances(modes, modes) * precision < 1
  close &= label[:, None] == label[None]

  def keep(i, kept):  # greedy: a mode near a better one is removed
    beaten = jnp.any(kept & close[i] & (jnp.arange(num_samples) < i))
    return kept.at[i].set(~beaten & (density[i] > 0))

  kept = jax.lax.fori_loop(0, num_samples, keep, jnp.zeros(num_samples, bool))
  position = jnp.cumsum(kept) - 1
  row = jnp.where(kept, position, max_groups)  # beyond M: dropped by `set`

  def put(values):
    zeros = jnp.zeros((max_groups, *values.shape[1:]), values.dtype)
    return zeros.at[row].set(values, mode="drop")

  found = jnp.sum(kept)
  return assign_to_centers(
    pixels,
    centers=put(modes),
    center_category=put(label),
    center_valid=jnp.arange(max_groups) < found,
    min_pixels=min_pixels,
    num_dropped=jnp.maximum(found - max_groups, 0),
  )


def _distances(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns squared distances [S, S] between [S, T] and [S, T]."""
  origin = jnp.mean(b, axis=0)
  a, b = a - origin, b - origin
  product = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
  return jnp.maximum(
    jnp.sum(a**2, axis=1)[:, None] - 2 * product + jnp.sum(b**2, axis=1), 0.0
  )
