"""Finds instances that get no cell of the grids.

Shape letters: N instances, G cells over all levels.
"""

import dataclasses

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.grid.perfect_outputs import find_owners
from solo_jax.methods.grid.targets import Assignment, assign_batch
from solo_jax.methods.interface import Capacity, LostInstances, Way

WITHOUT_CELL = "without a cell"
NO_LEVEL = Way(
  "no level",
  "size outside every range of loss.scale_ranges: no cell",
  WITHOUT_CELL,
)
NO_CELL = Way(
  "no cell left",
  "every cell taken by a later instance: the grid is too coarse",
  WITHOUT_CELL,
)
TOO_MANY_PAIRS = Way(
  "beyond max_positives",
  "its cells are beyond loss.max_positives: not trained",
)
CELLS = Capacity(
  "cells",
  ("loss.max_positives", "decode.max_candidates", "decode.nms_candidates"),
)


def lost_instances(
  batch: types.Batch,
  *,
  num_grids: tuple[int, ...],
  assignment: Assignment,
) -> LostInstances:
  """Returns instances without a level, a cell or a place among the positives.

  Args:
    batch: Batch of one image.
    num_grids: Cells per side of each level.
    assignment: As the loss assigns cells.

  Returns:
    The lost instances.
  """
  num_instances = batch.valid.shape[1]
  sizes = batch.boxes_xyxy[0, :, 2:] - batch.boxes_xyxy[0, :, :2]
  scale = jnp.sqrt(jnp.prod(jnp.maximum(sizes, 0.0), axis=1))[:, None]
  low, high = jnp.array(assignment.scale_ranges, jnp.float32).T
  has_level = jnp.any((scale >= low) & (scale <= high), axis=1)
  everything = dataclasses.replace(
    assignment,
    max_positives=num_instances * len(num_grids) * 9,
    shared_cells="all",
  )
  claimed, kept = (
    jax.tree.map(
      lambda x: x[0], assign_batch(batch, num_grids=num_grids, assignment=rule)
    )
    for rule in (everything, assignment)
  )
  owner, _ = find_owners(claimed, sum(s * s for s in num_grids), num_instances)

  def count(where, instance):
    return jnp.zeros(num_instances, jnp.int32).at[instance].add(where)

  is_owner = claimed.valid & (owner[claimed.cell] == claimed.instance)
  taken = count(claimed.valid, claimed.instance)
  owned = count(is_owner, claimed.instance)
  return LostInstances(
    ways=(NO_LEVEL, NO_CELL, TOO_MANY_PAIRS),
    is_lost=(
      ~has_level,
      has_level & (owned == 0),
      (owned > 0) & (count(kept.valid, kept.instance) == 0),
    ),
    is_reduced={"some cells shared": (owned > 0) & (owned < taken)},
    capacities=(CELLS,),
    taken=(taken,),
  )
