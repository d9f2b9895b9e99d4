"""Tag histogram: the peaks of the binned tags are the instances.

Follows the decoding of https://arxiv.org/abs/1611.05424, section 3.4, for
instance masks; with tags of two dimensions the bins are a plane, and a spatial
embedding votes for centres as in a Hough transform. Shape letters: Q pixels
(h * w, flattened), K categories, M groups, T tag dimensions, n bins per
dimension.
"""

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.grouping.groups import Groups, Pixels, assign_to_centers

BINS_PER_RADIUS = 2
MAX_BINS = 128  # per dimension; a larger range of tags gets wider bins


def tag_histogram(
  pixels: Pixels,
  *,
  num_categories: int,
  max_groups: int,
  min_pixels: int,
) -> Groups:
  """Returns the foreground pixels of an image, grouped.

  Bins are half a mean radius wide. Counts, summed over adjacent bins, that are
  the largest within two bins are peaks; a centre is the mean of the tags that a
  peak counts. Pixels within their radius of the nearest centre of their
  category are a group.

  Args:
    pixels: Pixels of the image; the foreground is grouped. T is 1 or 2,
      categories are 0..K-1.
    num_categories: K.
    max_groups: M.
    min_pixels: Smaller groups are left out.

  Returns:
    The groups by decreasing height of their peak.

  Raises:
    ValueError: If T is neither 1 nor 2.
  """
  embedding, foreground = pixels.embedding, pixels.foreground
  num_tags = embedding.shape[1]
  if num_tags not in (1, 2):
    raise ValueError(
      f"tag_histogram supports tags of 1 or 2 dimensions, got {num_tags}; use "
      "seed_clustering or mean_shift, or train fewer tag_channels"
    )
  weights = foreground.astype(jnp.float32)
  inside = foreground[:, None]
  low = jnp.min(jnp.where(inside, embedding, jnp.inf), axis=0)
  high = jnp.max(jnp.where(inside, embedding, -jnp.inf), axis=0)
  low = jnp.where(jnp.isfinite(low), low, 0.0)
  spread = jnp.max(jnp.where(jnp.isfinite(high), high - low, 0.0))
  radius = jnp.exp(
    -0.5 * weights @ pixels.log_precision / jnp.maximum(weights.sum(), 1)
  )
  # Two empty bins on each side keep peaks off the border.
  width = jnp.maximum(radius / BINS_PER_RADIUS, spread / (MAX_BINS - 5))
  cell = jnp.floor((embedding - low) / width).astype(jnp.int32) + 2
  cell = jnp.clip(cell, 0, MAX_BINS - 1)

  shape = (num_categories, *[MAX_BINS] * num_tags)
  bins = (pixels.category, *cell.T)
  sums = (
    jnp.zeros((*shape, num_tags))
    .at[bins]
    .add(weights[:, None] * jnp.where(inside, embedding - low, 0.0))
  )
  counts = jnp.zeros(shape).at[bins].add(weights)
  counts = _window(counts, 3, jax.lax.add, 0.0)
  largest = _window(counts, 5, jax.lax.max, -jnp.inf)
  # Equal neighbours (a flat top) are ordered by their position.
  position = jnp.arange(MAX_BINS**num_tags, dtype=jnp.float32)
  position = position.reshape(shape[1:])
  last = _window(
    jnp.where(counts == largest, position, -1.0), 5, jax.lax.max, -jnp.inf
  )
  is_peak = (counts == largest) & (position == last)
  is_peak &= counts >= min_pixels
  heights = jnp.where(is_peak, counts, 0.0).reshape(-1)
  heights, index = jax.lax.top_k(heights, min(max_groups, heights.shape[0]))
  peak = jnp.unravel_index(index, shape)
  adjacent = np.indices([3] * num_tags).reshape(num_tags, -1).T - 1  # [3^T, T]
  bins = jnp.stack(peak[1:], axis=-1)[:, None] + adjacent  # [M, 3^T, T]
  total = jnp.sum(sums[peak[0][:, None], *jnp.moveaxis(bins, -1, 0)], axis=1)
  centers = low + total / jnp.maximum(heights, 1.0)[:, None]
  padding = max_groups - heights.shape[0]
  return assign_to_centers(
    pixels,
    centers=jnp.pad(centers, ((0, padding), (0, 0))),
    center_category=jnp.pad(peak[0], (0, padding)),
    center_valid=jnp.pad(heights > 0, (0, padding)),
    min_pixels=min_pixels,
    num_dropped=jnp.maximum(jnp.sum(is_peak) - max_groups, 0),
  )


def _window(counts, size, reduce, initial):
  """Reduces over a window of tag bins of each category."""
  window = (1, *[size] * (counts.ndim - 1))
  return jax.lax.reduce_window(
    counts, initial, reduce, window, [1] * counts.ndim, "SAME"
  )
