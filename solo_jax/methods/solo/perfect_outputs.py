"""The targets of SOLO and Decoupled SOLO as raw outputs.

Shape letters: N instances, S cells per side of a level, G cells per level
(S^2), C channels, h and w mask resolution of a level.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.grid.network import GridNetwork
from solo_jax.methods.grid.perfect_outputs import Cells, logit
from solo_jax.methods.solo.loss import coarsen_masks
from solo_jax.methods.solo.network import UPSCALE, LevelFactor, Outputs

MakeFactors = Callable[[jax.Array, jax.Array], tuple[LevelFactor, ...]]


def perfect_outputs(
  network: GridNetwork,
  batch: types.Batch,
  cells: Cells,
  make_factors: MakeFactors,
) -> Outputs:
  """Returns outputs in which each instance's cells have its mask.

  Args:
    network: SOLO or DecoupledSOLO; only its strides are read.
    batch: One image with its targets.
    cells: Cells of the batch.
    make_factors: (weights [N, h, w] float32, owner [S, S] int32) -> the factors
      of the masks of a level.

  Returns:
    The outputs.

  Raises:
    ValueError: If there is more than one image.
  """
  if batch.image.shape[0] != 1:
    raise ValueError("kernels of SOLO are for all images: pass one at a time")
  factors, mask_sizes = [], []
  for owner, stride in zip(cells.owner, network.strides, strict=True):
    size = tuple(UPSCALE * (n // stride) for n in batch.image.shape[1:3])
    weights = coarsen_masks(batch.masks, size).unpack()[0]
    factors.append(make_factors(weights, owner[0]))
    mask_sizes.append(size)
  return Outputs(cells.category_logits, tuple(factors), tuple(mask_sizes))


def own_masks(weights: jax.Array, owner: jax.Array) -> tuple[LevelFactor]:
  """Returns the factor of SOLO: a cell's channel is the mask of its owner."""
  return (pick_maps(logit(weights), owner.ravel()),)


def pick_maps(maps: jax.Array, channel: jax.Array) -> LevelFactor:
  """Returns a factor of one map per cell.

  Args:
    maps: Logits. [C, h, w] float32.
    channel: Channel of each cell; negative for none. [G] int32.

  Returns:
    The factor.
  """
  kernel = jax.nn.one_hot(channel, maps.shape[0])
  return LevelFactor(
    jnp.moveaxis(maps, 0, -1)[None], kernel, jnp.zeros(channel.shape)
  )
