"""The result of a grouping, and the assignment of pixels to given centres.

Shape letters: Q pixels (h * w, flattened), M groups, T tag dimensions.
"""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pixels:
  """What is grouped: the pixels of one image.

  Attributes:
    embedding: [Q, T] float.
    log_precision: log(1 / radius^2) of each pixel. [Q] float.
    category: Only pixels of one category are grouped. [Q] int32.
    foreground: Pixels to group. [Q] bool.
  """

  embedding: jax.Array
  log_precision: jax.Array
  category: jax.Array
  foreground: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Groups:
  """Pixels of one image, grouped.

  Attributes:
    assignment: Group of each pixel, 1..M; 0 for none. [Q] int32.
    centers: Mean embedding of each group. [M, T] float32.
    log_precision: Mean log(1 / radius^2) of each group. [M] float32.
    valid: [M] bool.
    num_dropped: Groups found beyond the capacity M, and seeds that were not
      tried. [] int32.
  """

  assignment: jax.Array
  centers: jax.Array
  log_precision: jax.Array
  valid: jax.Array
  num_dropped: jax.Array


def assign_to_centers(
  pixels: Pixels,
  *,
  centers: jax.Array,
  center_category: jax.Array,
  center_valid: jax.Array,
  min_pixels: int,
  num_dropped: jax.Array,
) -> Groups:
  """Returns the nearest centre of its own category for each foreground pixel.

  A pixel farther than its own radius from every centre belongs to none. Centres
  are then moved to the mean of their pixels.

  Args:
    pixels: To be assigned.
    centers: [M, T] float.
    center_category: [M] int32.
    center_valid: [M] bool.
    min_pixels: Groups of fewer pixels are left out.
    num_dropped: Centres that did not fit. [] int32.

  Returns:
    The groups, in the order of the centres.
  """
  embedding = pixels.embedding.astype(jnp.float32)
  foreground, log_precision = pixels.foreground, pixels.log_precision
  # Centred on their mean, so that a common offset does not cost precision.
  weights = foreground.astype(jnp.float32)
  embedding = jnp.where(foreground[:, None], embedding, 0.0)
  origin = weights @ embedding / jnp.maximum(jnp.sum(weights), 1.0)
  points, middles = embedding - origin, centers - origin
  product = jnp.matmul(points, middles.T, precision=jax.lax.Precision.HIGHEST)
  # |c|^2 - 2 e.c: |e|^2 is the same for all centres of a pixel.
  partial = jnp.sum(middles**2, axis=1) - 2 * product  # [Q, M]
  same = pixels.category[:, None] == center_category[None]
  partial = jnp.where(same & center_valid[None], partial, jnp.inf)
  nearest = jnp.argmin(partial, axis=1)
  distance = jnp.sum((embedding - centers[nearest]) ** 2, axis=1)
  member = foreground & (distance * jnp.exp(log_precision) < 1)
  member &= jnp.min(partial, axis=1) < jnp.inf

  num_groups = centers.shape[0]
  row = jnp.where(member, nearest, num_groups)
  columns = jnp.concatenate(
    [embedding, log_precision[:, None], jnp.ones_like(embedding[:, :1])], axis=1
  )
  sums = jax.ops.segment_sum(columns, row, num_groups + 1)[:num_groups]
  count = sums[:, -1]
  means = sums[:, :-1] / jnp.maximum(count, 1.0)[:, None]
  valid = count >= max(min_pixels, 1)
  padded = jnp.append(valid, False)
  return Groups(
    assignment=jnp.where(padded[row], row + 1, 0).astype(jnp.int32),
    centers=means[:, :-1],
    log_precision=means[:, -1],
    valid=valid,
    num_dropped=num_dropped,
  )
