"""Points NMS: keeps the local maxima of a category grid."""

import jax
import jax.numpy as jnp


def points_nms(probs: jax.Array) -> jax.Array:
  """Returns probabilities, 0 below an upper, left or upper-left neighbour.

  The 2x2 max pooling of SOLOv2 (https://arxiv.org/abs/2003.10152, section
  3.4): a cell is compared with itself and the three neighbours above and to
  the left; equal values are all kept.

  Args:
    probs: Category probabilities of one level, >= 0. [..., S, S, K] float.

  Returns:
    `probs` where a cell is a maximum of its window, 0 elsewhere.

  Examples:
    >>> import jax.numpy as jnp
    >>> probs = jnp.array([[0.1, 0.6], [0.9, 0.2]])[..., None]
    >>> print(points_nms(probs)[..., 0])
    [[0.1 0.6]
     [0.9 0. ]]
  """
  pad = [(0, 0)] * (probs.ndim - 3) + [(1, 0), (1, 0), (0, 0)]
  padded = jnp.pad(probs, pad)
  above, left = padded[..., :-1, 1:, :], padded[..., 1:, :-1, :]
  diagonal = padded[..., :-1, :-1, :]
  largest = jnp.maximum(jnp.maximum(above, left), diagonal)
  return jnp.where(probs >= largest, probs, 0.0)
