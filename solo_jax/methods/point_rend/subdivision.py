"""Refinement of masks where they are least certain.

https://arxiv.org/abs/1912.08193, sections 3.1 and 3.2. Shape letters: R masks,
h, w their size, P points.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from solo_jax.methods.regions.points import grid_points
from solo_jax.nn.resize import resize_bilinear


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subdivision:
  """How far masks are refined.

  Attributes:
    steps: Times that both sides are doubled.
    num_points: Cells recomputed in each step.
  """

  steps: int
  num_points: int


def subdivide(
  logits: jax.Array,
  read_points: Callable[[jax.Array], jax.Array],
  subdivision: Subdivision,
) -> jax.Array:
  """Returns masks of twice the size, with the least certain cells recomputed.

  A step whose successor can compute all of its cells only enlarges.

  Args:
    logits: Coarse masks of one class each. [R, h, w] float32.
    read_points: (x, y) in [0, 1] of each mask, [R, P, 2] -> logits [R, P].
    subdivision: How far.

  Returns:
    [R, h * 2^steps, w * 2^steps] float32.
  """
  for step in range(subdivision.steps):
    height, width = (2 * side for side in logits.shape[1:])
    logits = resize_bilinear(logits[..., None], (height, width))[..., 0]
    is_last = step == subdivision.steps - 1
    if subdivision.num_points >= 4 * height * width and not is_last:
      continue
    flat = logits.reshape(len(logits), height * width)
    count = min(subdivision.num_points, flat.shape[1])
    _, cells = jax.lax.top_k(-jnp.abs(flat), count)
    cells = jnp.sort(cells, axis=1)
    values = read_points(grid_points(height, width)[cells])
    rows = jnp.arange(len(flat))[:, None]
    flat = flat.at[rows, cells].set(
      values, unique_indices=True, indices_are_sorted=True
    )
    logits = flat.reshape(logits.shape)
  return logits


def choose_points(
  candidates: jax.Array,
  uncertainty: jax.Array,
  random: jax.Array,
  num_points: int,
) -> jax.Array:
  """Returns the points that a mask trains on.

  Args:
    candidates: (x, y) in [0, 1]. [R, candidates, 2] float32.
    uncertainty: Uncertainty of the mask at each. [R, candidates] float32.
    random: Points that are always taken. [R, r, 2] float32.
    num_points: P.

  Returns:
    The P - r least certain candidates, then `random`. [R, P, 2] float32.
  """
  _, best = jax.lax.top_k(uncertainty, num_points - random.shape[1])
  chosen = jnp.take_along_axis(candidates, best[..., None], axis=1)
  return jnp.concatenate([chosen, random], axis=1)
