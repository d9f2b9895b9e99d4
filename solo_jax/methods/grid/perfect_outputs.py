"""The outputs of a perfect network on grids: the targets as logits.

Shape letters: B images, N instances, P positive pairs, G cells over all
levels, S cells per side of a level, K classes, h and w mask resolution.
"""

import dataclasses

import jax
import jax.numpy as jnp

from solo_jax.methods.grid.targets import Targets

# Logits of certainty. One cell of each instance is slightly more certain, so
# that capacities and NMS keep one cell of each instance before a second one of
# any.
SURE, FIRST, OTHER = 20.0, 8.0, 6.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Cells:
  """Targets of the cells of a batch.

  Attributes:
    owner: Instance of each cell, -1 for none. One [B, S, S] int32 per level.
    category_logits: One [B, S, S, K] float32 per level.
  """

  owner: tuple[jax.Array, ...]
  category_logits: tuple[jax.Array, ...]


def perfect_cells(
  targets: Targets,
  labels: jax.Array,
  *,
  num_grids: tuple[int, ...],
  num_classes: int,
) -> Cells:
  """Returns the owners of the cells, and category logits certain of them.

  Args:
    targets: Leaves [B, ...].
    labels: [B, N] int32.
    num_grids: Cells per side of each level.
    num_classes: K.

  Returns:
    The cells.
  """
  num_cells = sum(s * s for s in num_grids)

  def image_cells(targets, labels):
    owner, first = find_owners(targets, num_cells, labels.shape[0])
    logits = jnp.where(owner >= 0, OTHER, -SURE)
    logits = logits.at[first].set(FIRST, mode="drop")
    label = labels[jnp.maximum(owner, 0)]
    is_label = jax.nn.one_hot(label, num_classes, dtype=bool)
    return owner, jnp.where(is_label, logits[:, None], -SURE)

  owner, logits = jax.vmap(image_cells)(targets, labels)
  return Cells(split_levels(owner, num_grids), split_levels(logits, num_grids))


def find_owners(
  targets: Targets, num_cells: int, num_instances: int
) -> tuple[jax.Array, jax.Array]:
  """Returns whose mask each cell of an image has: the last to claim it.

  Args:
    targets: Targets of one image.
    num_cells: G.
    num_instances: N.

  Returns:
    owner: Instance of each cell, -1 for none. [G] int32.
    first: The first cell that an instance owns, the centre if it does; G for
      an instance that owns none. [N] int32.
  """
  cell = jnp.where(targets.valid, targets.cell, num_cells)
  owner = jnp.full(num_cells, -1, jnp.int32)
  owner = owner.at[cell].max(targets.instance, mode="drop")
  owned = owner.at[cell].get(mode="fill", fill_value=-1) == targets.instance
  owned &= targets.valid
  # Pairs are ordered by rank: centres before the rest.
  pair = jnp.arange(cell.shape[0])
  row = jnp.where(owned, targets.instance, num_instances)
  first_pair = jnp.full(num_instances, cell.shape[0])
  first_pair = first_pair.at[row].min(pair, mode="drop")
  return owner, cell.at[first_pair].get(mode="fill", fill_value=num_cells)


def split_levels(
  values: jax.Array, num_grids: tuple[int, ...]
) -> tuple[jax.Array, ...]:
  """Returns [B, G, ...] split into one [B, S, S, ...] per level."""
  levels, start = [], 0
  for s in num_grids:
    level = values[:, start : start + s * s]
    levels.append(level.reshape(level.shape[0], s, s, *level.shape[2:]))
    start += s * s
  return tuple(levels)


def logit(probs: jax.Array) -> jax.Array:
  """Returns the logits of probabilities, those of 0 and 1 bounded."""
  probs = jnp.clip(probs, 1e-6, 1 - 1e-6)
  return jnp.log(probs) - jnp.log1p(-probs)
