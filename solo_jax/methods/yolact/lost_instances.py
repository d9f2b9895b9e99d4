"""Finds instances that YOLACT is not trained on.

Shape letters: N instances, A priors.
"""

import jax.numpy as jnp
import numpy as np

from solo_jax import types
from solo_jax.methods.interface import LostInstances, Way
from solo_jax.methods.regions.box_coding import area, pairwise_iou
from solo_jax.methods.yolact.targets import assign

NO_AREA = Way("no area", "its box has no area: no prior can find it")
NO_PRIOR = Way(
  "no prior",
  "another instance takes every prior box that it overlaps "
  "(network.prior_sizes, loss.assignment): not trained",
)
NO_CELL = Way(
  "no cell",
  "covers less than half of every mask cell: no mask can represent it",
)


def lost_instances(
  batch: types.Batch, *, priors: np.ndarray, assignment: str
) -> LostInstances:
  """Returns instances without area or prior, or smaller than the masks' cells.

  Args:
    batch: Batch of one image.
    priors: See `priors.make_priors`. [A, 4] float32.
    assignment: See `targets.assign`.

  Returns:
    The lost instances.
  """
  valid, has_area = batch.valid[0], area(batch.boxes_xyxy[0]) > 0
  iou = pairwise_iou(batch.boxes_xyxy[0], priors)
  instance, kind = assign(iou, valid & has_area, assignment)
  taken = jnp.zeros(len(valid), jnp.int32)
  taken = taken.at[instance].add((kind == 1).astype(jnp.int32))
  cells = jnp.sum(batch.masks.unpack()[0] > 0.5, axis=(1, 2))
  has_prior = taken > 0
  return LostInstances(
    ways=(NO_AREA, NO_PRIOR, NO_CELL),
    is_lost=(
      valid & ~has_area,
      valid & has_area & ~has_prior,
      valid & has_prior & (cells == 0),
    ),
    sizes={
      "priors": jnp.where(valid, taken, 0),
      "mask cells": cells,
    },
  )
