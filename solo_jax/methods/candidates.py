"""From category grids to scored masks, with static shapes, for every SOLO.

The order of steps is the published one (SOLOv2,
https://arxiv.org/abs/2003.10152, section 3.4): points NMS, score threshold,
masks, area filter, maskness, top candidates, Matrix NMS, score threshold, top
detections. How a mask is computed is the method's business.

Shape letters: B images, G cells, K classes, M detections, h and w mask
resolution; n: candidates of the current capacity.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.grouping.matrix_nms import matrix_nms
from solo_jax.grouping.points_nms import points_nms
from solo_jax.methods.cells import flatten_levels


def decode_candidates(
  category_logits: tuple[jax.Array, ...],
  maps: Any,
  mask_probs: Callable[[Any, jax.Array, jax.Array], jax.Array],
  *,
  strides: tuple[int, ...],
  score_threshold: float,
  mask_threshold: float,
  max_candidates: int,
  nms_candidates: int,
  nms_kernel: str,
  nms_sigma: float,
  update_threshold: float,
  max_detections: int,
) -> types.Decoded:
  """Decodes a batch; each image is decoded on its own.

  Args:
    category_logits: One [B, S, S, K] per level.
    maps: What masks are computed from; a tree of arrays [B, ...].
    mask_probs: (maps of one image, cells, valid) -> probabilities of their
      masks: [n] int32, [n] bool -> [n, h, w] float32. Masks of cells that are
      not valid do not matter.
    strides: Per level: a mask of at most this many mask pixels is dropped.
    score_threshold: A (cell, class) above it is a candidate.
    mask_threshold: A mask pixel above it belongs to the instance.
    max_candidates: Candidates kept before their masks are computed, by score;
      more are dropped and counted. (Published: unlimited.)
    nms_candidates: Candidates kept for Matrix NMS, by score times maskness.
    nms_kernel: 'gaussian' or 'linear'.
    nms_sigma: See `matrix_nms`.
    update_threshold: Detections of a lower decayed score are dropped.
    max_detections: M.

  Returns:
    The detections of each image.
  """
  num_classes = category_logits[0].shape[-1]
  probs = tuple(points_nms(jax.nn.sigmoid(x)) for x in category_logits)
  probs = flatten_levels(probs)  # [B, G, K]
  min_area = jnp.concatenate(
    [
      jnp.full(x.shape[1] * x.shape[2], stride, jnp.float32)
      for x, stride in zip(category_logits, strides, strict=True)
    ]
  )
  probs = probs.reshape(probs.shape[0], -1)  # cell-major, then class
  max_candidates = min(max_candidates, probs.shape[1])
  ladder = _capacities(max_candidates)

  def decode_image(inputs):
    probs, maps = inputs
    num_above = jnp.sum(probs > score_threshold)
    scores, index = jax.lax.top_k(probs, max_candidates)
    cell, labels = index // num_classes, index % num_classes

    def with_capacity(n):
      def decode_prefix():
        valid = scores[:n] > score_threshold
        return _score_and_suppress(
          mask_probs(maps, cell[:n], valid),
          jnp.where(valid, scores[:n], 0.0),
          labels[:n],
          min_area[cell[:n]],
          mask_threshold=mask_threshold,
          nms_candidates=nms_candidates,
          nms_kernel=nms_kernel,
          nms_sigma=nms_sigma,
          update_threshold=update_threshold,
          max_detections=max_detections,
        )

      return decode_prefix

    # Scores are sorted, so the smallest sufficient prefix holds them all.
    branch = jnp.sum(num_above > jnp.array(ladder[:-1], jnp.int32))
    kept_probs, kept_scores, kept_labels = jax.lax.switch(
      branch, [with_capacity(n) for n in ladder]
    )
    return types.Decoded(
      mask_probs=kept_probs,
      scores=kept_scores,
      labels=kept_labels,
      valid=kept_scores > 0,
      num_dropped=jnp.maximum(num_above - max_candidates, 0).astype(jnp.int32),
    )

  # One image after another: under vmap the switch would run every branch.
  return jax.lax.map(decode_image, (probs, maps))


def _score_and_suppress(
  mask_probs,
  scores,
  labels,
  min_area,
  *,
  mask_threshold,
  nms_candidates,
  nms_kernel,
  nms_sigma,
  update_threshold,
  max_detections,
):
  """Finishes n candidates of one image: scores [n], 0 where there is none.

  Returns:
    mask_probs [M, h, w], scores [M] falling, 0 where empty, labels [M].
  """
  num_candidates, height, width = mask_probs.shape
  mask_probs = mask_probs.reshape(num_candidates, -1)  # [n, h * w]
  masks = mask_probs > mask_threshold
  area = jnp.sum(masks, axis=1, dtype=jnp.float32)
  inside = jnp.sum(jnp.where(masks, mask_probs, 0.0), axis=1)
  scores *= inside / jnp.maximum(area, 1.0)  # maskness
  scores = jnp.where(area > min_area, scores, 0.0)

  scores, order = jax.lax.top_k(scores, min(nms_candidates, num_candidates))
  labels, valid = labels[order], scores > 0
  scores = matrix_nms(
    masks[order],
    scores,
    labels,
    valid,
    kernel=nms_kernel,
    sigma=nms_sigma,
  )
  scores = jnp.where(scores >= update_threshold, scores, 0.0)
  scores, kept = jax.lax.top_k(scores, min(max_detections, scores.shape[0]))
  padding = max_detections - scores.shape[0]
  mask_probs = mask_probs[order[kept]].reshape(-1, height, width)
  return (
    jnp.pad(mask_probs, [(0, padding), (0, 0), (0, 0)]),
    jnp.pad(scores, (0, padding)),
    jnp.pad(labels[kept], (0, padding)),
  )


def _capacities(largest: int) -> tuple[int, ...]:
  """Returns 64, 128, 256, 384, 512, 768, ... below `largest`, then `largest`.

  Decoding costs what its capacity does, every capacity costs time to compile:
  close steps pay where capacities are large.
  """
  ladder = []
  n = 64
  while n < largest:
    ladder += [n] if n < 256 else [n, n * 3 // 2]
    n *= 2
  return (*(n for n in ladder if n < largest), largest)
