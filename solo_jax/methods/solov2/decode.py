"""From SOLOv2 outputs to detections: masks by dynamic convolution.

Shape letters: B images, G cells, E mask-feature channels; n: candidates of the
current capacity.
"""

from typing import Any

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.candidates import decode_candidates
from solo_jax.methods.cells import flatten_levels
from solo_jax.methods.solov2.network import Outputs


def decode(
  outputs: Outputs,
  image_size: jax.Array,
  **settings: Any,
) -> types.Decoded:
  """Decodes a batch of outputs.

  Args:
    outputs: Network outputs of B images.
    image_size: Valid (height, width). [B, 2] int32. Unused: padding is cut
      when masks are brought to the original size.
    **settings: See `decode_candidates`.

  Returns:
    The detections of each image.
  """
  del image_size
  maps = flatten_levels(outputs.kernel), outputs.mask_feature
  return decode_candidates(
    outputs.category_logits, maps, _mask_probs, **settings
  )


def _mask_probs(maps, cell, valid):
  """Computes [n, h, w] from kernels [G, E] and mask feature [h, w, E]."""
  del valid
  kernel, feature = maps
  height, width, channels = feature.shape
  logits = jnp.einsum(
    "ne,qe->nq",
    kernel[cell].astype(feature.dtype),
    feature.reshape(-1, channels),
    preferred_element_type=jnp.float32,
  )
  return jax.nn.sigmoid(logits).reshape(-1, height, width)
