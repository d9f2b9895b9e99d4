"""Masks as sums of maps: what SOLOv2's kernels and YOLACT's coefficients do.

Shape letters: n masks, E maps, h, w their resolution.
"""

import jax
import jax.numpy as jnp


def apply_kernels(kernels: jax.Array, maps: jax.Array) -> jax.Array:
  """Returns the maps of an image summed with the weights of each kernel.

  The dynamic 1x1 convolution of SOLOv2 (https://arxiv.org/abs/2003.10152,
  section 3.2.2) and the combination of prototypes of YOLACT
  (https://arxiv.org/abs/1904.02689, eq. 1).

  Args:
    kernels: A weight of every map for each mask. [n, E] float.
    maps: [h, w, E] float.

  Returns:
    [n, h, w] float32.
  """
  return jnp.einsum(
    "pe,hwe->phw", kernels, maps, preferred_element_type=jnp.float32
  )
