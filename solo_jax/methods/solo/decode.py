"""Decodes the cells of SOLO and Decoupled SOLO.

Shape letters: B images, G cells per level, E channels, L levels, h and w mask
resolution of the finest level; n: candidates of the current capacity.
"""

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.losses.chunks import CHUNK
from solo_jax.methods.grid.decode import Grids
from solo_jax.methods.grid.masks import mask_logits
from solo_jax.methods.solo.network import Outputs
from solo_jax.nn.resize import resize_bilinear


def make_grids(outputs: Outputs) -> Grids:
  """Returns the grids that `candidates` decodes.

  As published, the probabilities of coarser levels are resized to the size of
  the finest (P2's) first.

  Args:
    outputs: Network outputs of B images.

  Returns:
    Their grids.
  """
  size = max(outputs.mask_sizes)
  # Kernels are the same for all images, so they are not part of the mapped
  # tree.
  features = tuple(
    tuple(f.feature for f in factors) for factors in outputs.factors
  )

  def cells_of_level(level, features):
    def level_probs(cell):
      probs = 1.0
      for factor, feature in zip(
        outputs.factors[level], features[level], strict=True
      ):
        kernel = factor.kernel[cell].astype(feature.dtype)
        factor_probs = jax.nn.sigmoid(
          mask_logits(
            feature, kernel, factor.bias[cell], outputs.mask_sizes[level]
          )
        )
        probs *= resize_bilinear(factor_probs[..., None], size)[..., 0]
      return probs  # [CHUNK, h, w]

    return level_probs

  num_cells = [factors[0].kernel.shape[0] for factors in outputs.factors]

  def mask_probs(features, cell, valid):
    branches = [cells_of_level(i, features) for i in range(len(num_cells))]
    return _map_by_level(branches, num_cells, cell, valid, size)

  return Grids(
    category_logits=outputs.category_logits,
    maps=features,
    mask_probs=mask_probs,
  )


def _map_by_level(branches, num_cells, cell, valid, size):
  """Computes the masks of cells of several levels, in chunks of a level.

  Args:
    branches: For each level: cells [CHUNK] int32, counted within the level,
      -> [CHUNK, h, w] float32.
    num_cells: G of each level.
    cell: Cells, counted over all levels. [n] int32.
    valid: [n] bool.
    size: (h, w).

  Returns:
    [n, h, w] float32; 0 where not valid.
  """
  num_levels, num_candidates = len(branches), cell.shape[0]
  ends = np.cumsum(num_cells)
  first_cells = jnp.array(ends - num_cells)
  level = jnp.sum(cell[:, None] >= jnp.array(ends)[None], axis=1)
  level = jnp.where(valid, level, num_levels)
  order = jnp.argsort(level, stable=True)
  counts = jnp.bincount(level, length=num_levels + 1)[:num_levels]
  first_rows = jnp.cumsum(counts) - counts
  chunks = (counts + CHUNK - 1) // CHUNK  # of each level
  last_chunks = jnp.cumsum(chunks)

  def add_chunk(i, probs):
    level = jnp.sum(i >= last_chunks)
    start = (i - last_chunks[level] + chunks[level]) * CHUNK
    position = start + jnp.arange(CHUNK)
    row = order[jnp.minimum(first_rows[level] + position, num_candidates - 1)]
    is_here = position < counts[level]
    local = jnp.where(is_here, cell[row] - first_cells[level], 0)
    chunk = jax.lax.switch(level, branches, local)
    row = jnp.where(is_here, row, num_candidates)
    return probs.at[row].set(chunk, mode="drop")

  probs = jnp.zeros((num_candidates, *size), jnp.float32)
  return jax.lax.fori_loop(0, last_chunks[-1], add_chunk, probs)
