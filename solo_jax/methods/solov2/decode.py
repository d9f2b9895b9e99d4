"""Decodes the cells of SOLOv2: masks by dynamic convolution.

Shape letters: B images, G cells, E mask-feature channels; n: candidates of the
current capacity.
"""

import jax
import jax.numpy as jnp

from solo_jax.methods.grid.decode import Grids
from solo_jax.methods.grid.refinement import refine
from solo_jax.methods.grid.targets import flatten_levels
from solo_jax.methods.solov2.network import Outputs


def make_grids(outputs: Outputs) -> Grids:
  """Returns the grids that `candidates` decodes.

  Args:
    outputs: Network outputs of B images.

  Returns:
    Their grids.
  """
  return Grids(
    category_logits=outputs.category_logits,
    maps=(
      flatten_levels(outputs.kernel),
      outputs.mask_feature,
      outputs.refiner,
    ),
    mask_probs=_mask_probs,
    refine=None if outputs.refiner is None else _refine,
  )


def _refine(maps, probs):
  *_, refiner = maps
  return refine(refiner, probs)


def _mask_probs(maps, cell, valid):
  """Computes [n, h, w] from kernels [G, E] and mask feature [h, w, E]."""
  del valid
  kernel, feature, _ = maps
  height, width, channels = feature.shape
  logits = jnp.einsum(
    "ne,qe->nq",
    kernel[cell].astype(feature.dtype),
    feature.reshape(-1, channels),
    preferred_element_type=jnp.float32,
  )
  return jax.nn.sigmoid(logits).reshape(-1, height, width)
