"""Matrix NMS: decays the scores of overlapping masks in one parallel step.

Shape letters: M: candidate masks. Q: pixels of a mask (h * w, flattened).
"""

import functools

import jax
import jax.numpy as jnp

# Words of all masks whose shared bits are counted in one pass over the counts:
# with 8, XLA makes vector code of it, four times faster than with 4 or 16.
WORDS = 8


def matrix_nms(
  masks: jax.Array,
  scores: jax.Array,
  labels: jax.Array,
  valid: jax.Array,
  *,
  kernel: str,
  sigma: float,
) -> jax.Array:
  """Returns scores decayed by overlap with higher-scored masks of their class.

  Eqs. 4 and 5 of SOLOv2 (https://arxiv.org/abs/2003.10152):
  decay_j = min_{i before j} f(iou_ij) / f(iou_*i), where iou_*i is the
  largest overlap of mask i with one before it, and f is exp(-sigma iou^2)
  ('gaussian') or 1 - iou ('linear').

  Differs from the reference: with 'linear' a mask that repeats an earlier one
  exactly (iou_*i = 1) has no effect, where the published arithmetic gives 0 /
  0.

  Args:
    masks: Binary masks in decreasing order of score. [M, Q] bool.
    scores: Decreasing. [M] float32.
    labels: [M] int32.
    valid: False for padding, which neither decays nor is decayed. [M] bool.
    kernel: 'gaussian' or 'linear'.
    sigma: Width of the gaussian kernel; unused by 'linear'.

  Returns:
    Decayed scores in input order, at most `scores`. [M] float32.

  Raises:
    ValueError: If `kernel` is neither 'gaussian' nor 'linear'.

  Examples:
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> masks = jnp.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], bool)
    >>> scores, labels = jnp.array([0.9, 0.8, 0.7]), jnp.zeros(3, int)
    >>> valid = jnp.ones(3, bool)
    >>> decayed = matrix_nms(
    ...   masks, scores, labels, valid, kernel="gaussian", sigma=2.0
    ... )
    >>> print(np.asarray(decayed).round(3))
    [0.9   0.108 0.7  ]
  """
  if kernel not in ("gaussian", "linear"):
    raise ValueError(f"kernel must be 'gaussian' or 'linear', not {kernel!r}")
  areas = jnp.sum(masks, axis=1, dtype=jnp.float32)
  intersections = mask_intersections(masks)
  unions = areas[:, None] + areas[None, :] - intersections
  comparable = labels[:, None] == labels[None, :]
  comparable &= valid[:, None] & valid[None, :]
  rank = jnp.arange(masks.shape[0])
  earlier = comparable & (rank[:, None] < rank[None, :])  # i comes before j
  iou = jnp.where(earlier, intersections / jnp.maximum(unions, 1.0), 0.0)
  compensation = jnp.max(iou, axis=0)  # [M] iou_*i
  if kernel == "gaussian":
    decay = jnp.exp(sigma * (compensation[:, None] ** 2 - iou**2))
  else:
    repeats = compensation >= 1
    decay = (1 - iou) / jnp.where(repeats, 1.0, 1 - compensation)[:, None]
    decay = jnp.where(repeats[:, None], 1.0, decay)
  return scores * jnp.min(jnp.where(earlier, decay, 1.0), axis=0)


def mask_intersections(masks: jax.Array) -> jax.Array:
  """Returns the exact number of pixels that each pair of masks shares.

  Packed bits and popcount on the CPU, where that is three times cheaper than
  a matrix product; a bfloat16 product with float32 sums on accelerators
  (products of 0 and 1 are exact, and so are the sums below 2^24 pixels); a
  float32 product on other platforms, such as ONNX.

  Args:
    masks: [M, Q] bool.

  Returns:
    [M, M] float32, symmetric.
  """
  by_bfloat16 = functools.partial(_intersections_by_matmul, dtype=jnp.bfloat16)
  return jax.lax.platform_dependent(
    masks,
    cpu=_intersections_by_popcount,
    cuda=by_bfloat16,
    rocm=by_bfloat16,
    tpu=by_bfloat16,
    default=functools.partial(_intersections_by_matmul, dtype=jnp.float32),
  )


def _intersections_by_matmul(masks: jax.Array, dtype: jnp.dtype) -> jax.Array:
  masks = masks.astype(dtype)
  return jnp.einsum(
    "iq,jq->ij", masks, masks, preferred_element_type=jnp.float32
  )


def _intersections_by_popcount(masks: jax.Array) -> jax.Array:
  num_masks, num_pixels = masks.shape
  masks = jnp.pad(masks, [(0, 0), (0, -num_pixels % (32 * WORDS))])
  bits = masks.reshape(num_masks, -1, 32).astype(jnp.uint32)
  shifts = jnp.arange(32, dtype=jnp.uint32)
  words = jnp.sum(
    bits << shifts[None, None], axis=-1, dtype=jnp.uint32
  )  # [M, Q / 32]
  words = words.T.reshape(-1, WORDS, num_masks)

  def add_words(i, counts):
    # Places first, masks last: the counts fit into the cache, and no sum runs
    # along the vectors.
    rows = jax.lax.dynamic_index_in_dim(words, i, keepdims=False)
    for row in rows:
      counts += jax.lax.population_count(row[:, None] & row[None, :])
    return counts

  counts = jnp.zeros((num_masks, num_masks), jnp.uint32)
  counts = jax.lax.fori_loop(0, len(words), add_words, counts)
  return counts.astype(jnp.float32)
