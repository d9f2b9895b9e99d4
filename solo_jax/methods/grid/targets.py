"""Assigns grid cells to instances.

Shape letters: G: cells over all levels, level by level and row-major.
  L: levels. N: instances. P: positive (cell, instance) pairs, padded.
  S: cells per side of a level.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from solo_jax import types


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Targets:
  """Targets of one image.

  Attributes:
    category: Label of each cell, -1 for background. [G] int32.
    cell: Cell of each positive pair, 0 where padded. [P] int32.
    instance: Instance of each positive pair, 0 where padded. [P] int32.
    valid: False for padding. [P] bool.
    num_dropped: Positive pairs beyond the capacity P. [] int32.
  """

  category: jax.Array
  cell: jax.Array
  instance: jax.Array
  valid: jax.Array
  num_dropped: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assignment:
  """Which cells belong to an instance.

  Attributes:
    scale_ranges: (low, high) in network pixels of each level.
    center_sigma: Share of the box that counts as its centre.
    max_positives: Capacity P.
    shared_cells: Whose masks train a cell that is claimed twice: 'all', as in
      every published SOLOv2, or the 'last' instance, as in every SOLO and
      Decoupled SOLO.
  """

  scale_ranges: tuple[tuple[float, float], ...]
  center_sigma: float
  max_positives: int
  shared_cells: str

  def __post_init__(self):
    if self.shared_cells not in ("all", "last"):
      raise ValueError(
        f"shared_cells must be 'all' or 'last', not {self.shared_cells!r}"
      )


def assign_cells(
  centers: jax.Array,
  boxes_xyxy: jax.Array,
  labels: jax.Array,
  valid: jax.Array,
  *,
  padded_size: tuple[int, int],
  num_grids: tuple[int, ...],
  assignment: Assignment,
) -> Targets:
  """Returns the cells around each instance's centre of mass, assigned to it.

  SOLO (https://arxiv.org/abs/1912.04488, section 3.3.1): an instance belongs
  to every level whose scale range (both ends included) contains sqrt(w h) of
  its box; there, to the cells that its box, shrunk by `center_sigma` about the
  centre of mass, touches, at most 3x3 around the centre. A cell claimed twice
  has the label of the later instance.

  If there are more than `max_positives` pairs, centre cells are kept first, so
  that side cells are dropped before any instance loses all its cells.

  Args:
    centers: Centre of mass (x, y), pixel index in the network frame.
      [N, 2] float32.
    boxes_xyxy: [N, 4] float32, network pixels.
    labels: [N] int32.
    valid: [N] bool.
    padded_size: (H, W) that the grids span.
    num_grids: Cells per side of each level.
    assignment: The rule.

  Returns:
    The targets of the image.
  """
  positive, cell = _claim_cells(
    centers,
    boxes_xyxy,
    valid,
    padded_size=padded_size,
    num_grids=num_grids,
    assignment=assignment,
  )
  instance = jnp.broadcast_to(
    jnp.arange(labels.shape[0])[:, None, None, None], cell.shape
  )
  num_cells = sum(s * s for s in num_grids)
  owner = jnp.full(num_cells, -1, jnp.int32)
  owner = owner.at[jnp.where(positive, cell, num_cells)].max(
    instance, mode="drop"
  )
  category = jnp.where(owner >= 0, labels[jnp.maximum(owner, 0)], -1)
  if assignment.shared_cells == "last":
    # A cell beyond the grid belongs to no valid pair; any index will do.
    positive &= owner.at[cell].get(mode="clip") == instance

  max_positives = assignment.max_positives
  is_side = jnp.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])[None, None]
  rank = jnp.where(positive, is_side, 2).ravel()
  capacity = min(max_positives, rank.size)
  order = jnp.argsort(rank, stable=True)[:capacity]
  order = jnp.pad(order, (0, max_positives - capacity))
  kept = positive.ravel()[order] & (jnp.arange(max_positives) < capacity)
  return Targets(
    category=category,
    cell=jnp.where(kept, cell.ravel()[order], 0),
    instance=jnp.where(kept, instance.ravel()[order], 0),
    valid=kept,
    num_dropped=jnp.sum(positive) - jnp.sum(kept),
  )


def _claim_cells(
  centers: jax.Array,
  boxes_xyxy: jax.Array,
  valid: jax.Array,
  *,
  padded_size: tuple[int, int],
  num_grids: tuple[int, ...],
  assignment: Assignment,
) -> tuple[jax.Array, jax.Array]:
  """Returns the claims on the 3x3 cells around each centre, on each level.

  Returns:
    Whether the instance claims the cell, [N, L, 3, 3] bool, and the index of
    the cell, which may lie beyond the grid where it does not. [N, L, 3, 3]
    int32.
  """
  sizes = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]  # [N, 2] (w, h)
  scale = jnp.sqrt(jnp.prod(jnp.maximum(sizes, 0.0), axis=1))
  half = 0.5 * sizes * assignment.center_sigma
  extent = jnp.array(padded_size[::-1], jnp.float32)  # (W, H)
  low, high = jnp.array(assignment.scale_ranges, jnp.float32).T  # [L]
  grids = jnp.array(num_grids, jnp.int32)
  scale = scale[:, None]
  in_range = (scale >= low[None]) & (scale <= high[None])
  in_range &= valid[:, None]  # [N, L]

  def cell_of(position):  # [N, 2] -> [N, L, 2]
    return grid_cell(
      position[:, None, :], extent[None, None], grids[None, :, None]
    )

  center = cell_of(centers)
  last = grids[None, :, None] - 1
  first_cell = jnp.maximum(jnp.maximum(cell_of(centers - half), center - 1), 0)
  last_cell = jnp.minimum(
    jnp.minimum(cell_of(centers + half), center + 1), last
  )

  offsets = jnp.arange(-1, 2)
  columns = center[:, :, :1] + offsets[None, None]  # [N, L, 3]
  rows = center[:, :, 1:] + offsets[None, None]
  touches = (columns >= first_cell[:, :, :1]) & (columns <= last_cell[:, :, :1])
  touches_row = (rows >= first_cell[:, :, 1:]) & (rows <= last_cell[:, :, 1:])
  positive = touches_row[..., :, None] & touches[..., None, :]
  positive &= in_range[:, :, None, None]
  level_start = jnp.cumsum(grids**2) - grids**2
  cell = (
    level_start[None, :, None, None]
    + rows[..., :, None] * grids[None, :, None, None]
    + columns[..., None, :]
  )
  return positive, cell


def assign_batch(
  batch: types.Batch, *, num_grids: tuple[int, ...], assignment: Assignment
) -> Targets:
  """Returns the assigned cells of each image of a batch.

  Args:
    batch: The batch; images with `image_valid` False have no instances.
    num_grids: Cells per side of each level.
    assignment: The rule.

  Returns:
    Targets; leaves [B, ...].
  """
  assign = functools.partial(
    assign_cells,
    padded_size=batch.image.shape[1:3],
    num_grids=num_grids,
    assignment=assignment,
  )
  valid = batch.valid & batch.image_valid[:, None]
  return jax.vmap(assign)(batch.centers, batch.boxes_xyxy, batch.labels, valid)


def grid_cell(
  position: jax.Array, extent: jax.Array, num_grid: jax.Array
) -> jax.Array:
  """Returns the index of the grid cell that contains a position.

  trunc(f32(f32(position / extent) / f32(1 / num_grid))): the published
  arithmetic, including where rounding puts a centre on a grid line one cell
  early. The barriers keep XLA from fusing the divisions or turning them into
  products with reciprocals, which round differently.

  Args:
    position: Pixel-index coordinate. [...] float32.
    extent: Padded size along the same axis. [...] float32.
    num_grid: Cells along the axis. [...] int32.

  Returns:
    Cell index; may lie outside 0..num_grid - 1 if the position does.
      [...] int32.
  """
  side = 1.0 / num_grid.astype(jnp.float32)
  position, extent, side = jnp.broadcast_arrays(position, extent, side)
  extent, side = jax.lax.optimization_barrier((extent, side))
  share = jax.lax.optimization_barrier(position / extent)
  return jnp.trunc(share / side).astype(jnp.int32)


def flatten_levels(levels: tuple[jax.Array, ...]) -> jax.Array:
  """Returns levels [B, S, S, C] concatenated to [B, G, C]."""
  return jnp.concatenate(
    [x.reshape(x.shape[0], -1, x.shape[-1]) for x in levels], axis=1
  )
