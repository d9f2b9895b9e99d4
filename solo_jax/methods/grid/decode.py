"""From category grids to scored masks, with static shapes, for all SOLOs.

The order of steps is the published one (SOLOv2,
https://arxiv.org/abs/2003.10152, section 3.4): points NMS, score threshold,
masks, area filter, maskness, top candidates, Matrix NMS, score threshold, top
detections. Each method defines how its masks are computed.

Shape letters: B images, G cells, K classes, M detections, h and w mask
resolution; n: candidates of the current capacity.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.grouping.matrix_nms import matrix_nms
from solo_jax.grouping.points_nms import points_nms
from solo_jax.methods.grid.targets import flatten_levels
from solo_jax.methods.variants import Variant, to_frame


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodeSettings:
  """The config's section `decode`, and the strides of the grids.

  Attributes:
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
  """

  strides: tuple[int, ...]
  score_threshold: float
  mask_threshold: float
  max_candidates: int
  nms_candidates: int
  nms_kernel: str
  nms_sigma: float
  update_threshold: float
  max_detections: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grids:
  """A network's outputs for the grid cells of B images.

  Attributes:
    category_logits: One [B, S, S, K] per level.
    maps: What masks are computed from; a tree of arrays [B, ...].
    mask_probs: (maps of one image, cells, valid) -> probabilities of their
      masks: [n] int32, [n] bool -> [n, h, w] float32. Masks of cells that are
      not valid do not matter.
    refine: (maps of one image, probabilities of the detected masks) -> refined
      ones of a higher resolution; None: masks stay as they are.
  """

  category_logits: tuple[jax.Array, ...]
  maps: Any
  mask_probs: Callable[[Any, jax.Array, jax.Array], jax.Array]
  refine: Callable[[Any, jax.Array], jax.Array] | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidates:
  """Scored masks of one image.

  Attributes:
    mask_probs: [n, h, w] float32 in [0, 1].
    scores: 0 where there is no candidate. [n] float32.
    labels: [n] int32.
  """

  mask_probs: jax.Array
  scores: jax.Array
  labels: jax.Array


def decode_candidates(grids: Grids, settings: DecodeSettings) -> types.Decoded:
  """Returns the detections of a batch; each image is decoded on its own.

  Args:
    grids: Grids of the batch.
    settings: Settings of the decoder.

  Returns:
    The detections of each image.
  """

  def decode_image(inputs):
    probs, maps = inputs
    found, num_dropped = _find(grids, probs, maps, settings, _suppress)
    return _to_decoded(_refined(grids, maps, found), num_dropped)

  # One image after another: under vmap, the switch would run every branch.
  return jax.lax.map(decode_image, (_category_probs(grids), grids.maps))


def merge_candidates(
  variants: Sequence[Variant],
  make_grids: Callable[[Any], Grids],
  settings: DecodeSettings,
) -> types.Decoded:
  """Returns the detections of a batch that the network saw in several variants.

  Candidates of all variants compete in Matrix NMS, which has the same total
  capacity as for one variant.

  Args:
    variants: Variants of the batch.
    make_grids: Makes Grids of a variant's outputs.
    settings: Settings of the decoder.

  Returns:
    The detections of each image, in the frame of the first variant.
  """
  grids = [make_grids(variant.outputs) for variant in variants]

  def decode_image(inputs):
    of_image = [
      dataclasses.replace(variant, image_size=image_size)
      for variant, (_, _, image_size) in zip(variants, inputs, strict=True)
    ]
    parts, num_dropped = [], 0
    for i, (probs, maps, _) in enumerate(inputs):

      def bring(found, settings, i=i):
        found = _best(found, settings.nms_candidates)
        if i == 0:
          return found
        size = parts[0].mask_probs.shape[1:]
        mask_probs = to_frame(found.mask_probs, of_image[i], of_image[0], size)
        return dataclasses.replace(found, mask_probs=mask_probs)

      found, dropped = _find(grids[i], probs, maps, settings, bring)
      parts.append(found)
      num_dropped += dropped
    joined = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    found = _suppress(joined, settings)
    # The maps of the first variant are those of the frame of the result.
    return _to_decoded(_refined(grids[0], inputs[0][1], found), num_dropped)

  inputs = [
    (_category_probs(g), g.maps, variant.image_size)
    for g, variant in zip(grids, variants, strict=True)
  ]
  return jax.lax.map(decode_image, inputs)


def _category_probs(grids):
  """Flattens the levels, cell-major, then class. [B, G * K] float32."""
  probs = tuple(points_nms(jax.nn.sigmoid(x)) for x in grids.category_logits)
  probs = flatten_levels(probs)
  return probs.reshape(probs.shape[0], -1)


def _find(grids, probs, maps, settings, finish):
  """Finds the candidates of an image, in the smallest capacity that holds them.

  Args:
    grids: Grids of the batch.
    probs: Category probabilities of the image. [G * K].
    maps: Maps of the image.
    settings: Settings of the decoder.
    finish: (Candidates, settings) -> Candidates, the same number for any
      capacity.

  Returns:
    The result of `finish`, and the number of dropped candidates.
  """
  num_classes = grids.category_logits[0].shape[-1]
  min_area = jnp.concatenate(
    [
      jnp.full(x.shape[1] * x.shape[2], stride, jnp.float32)
      for x, stride in zip(grids.category_logits, settings.strides, strict=True)
    ]
  )
  max_candidates = min(settings.max_candidates, probs.shape[0])
  num_above = jnp.sum(probs > settings.score_threshold)
  scores, index = jax.lax.top_k(probs, max_candidates)
  cell, labels = index // num_classes, index % num_classes

  def with_capacity(n):
    valid = scores[:n] > settings.score_threshold
    mask_probs = grids.mask_probs(maps, cell[:n], valid)
    found = Candidates(
      mask_probs=mask_probs,
      scores=_rescore(
        mask_probs,
        jnp.where(valid, scores[:n], 0.0),
        min_area[cell[:n]],
        settings.mask_threshold,
      ),
      labels=labels[:n],
    )
    return finish(found, settings)

  # Scores are sorted, so the smallest sufficient prefix holds them all.
  ladder = _capacities(max_candidates)
  branch = jnp.sum(num_above > jnp.array(ladder[:-1], jnp.int32))
  found = jax.lax.switch(
    branch, [functools.partial(with_capacity, n) for n in ladder]
  )
  return found, jnp.maximum(num_above - max_candidates, 0).astype(jnp.int32)


def _rescore(mask_probs, scores, min_area, mask_threshold):
  """Multiplies scores by maskness; those of too small masks become 0. [n]."""
  mask_probs = mask_probs.reshape(len(mask_probs), -1)  # [n, h * w]
  masks = mask_probs > mask_threshold
  area = jnp.sum(masks, axis=1, dtype=jnp.float32)
  inside = jnp.sum(jnp.where(masks, mask_probs, 0.0), axis=1)
  scores *= inside / jnp.maximum(area, 1.0)
  return jnp.where(area > min_area, scores, 0.0)


def _best(found, number):
  """Returns the best `number` candidates, padded if there are fewer."""
  scores, order = jax.lax.top_k(found.scores, min(number, len(found.scores)))
  padding = number - len(scores)
  return Candidates(
    mask_probs=jnp.pad(found.mask_probs[order], [(0, padding), (0, 0), (0, 0)]),
    scores=jnp.pad(scores, (0, padding)),
    labels=jnp.pad(found.labels[order], (0, padding)),
  )


def _suppress(found, settings):
  """Decays scores by Matrix NMS; returns the M best candidates."""
  found = _best(found, min(settings.nms_candidates, len(found.scores)))
  masks = found.mask_probs > settings.mask_threshold
  scores = matrix_nms(
    masks.reshape(len(masks), -1),
    found.scores,
    found.labels,
    found.scores > 0,
    kernel=settings.nms_kernel,
    sigma=settings.nms_sigma,
  )
  scores = jnp.where(scores >= settings.update_threshold, scores, 0.0)
  found = dataclasses.replace(found, scores=scores)
  return _best(found, settings.max_detections)


def _refined(grids, maps, found):
  if grids.refine is None:
    return found
  return dataclasses.replace(
    found, mask_probs=grids.refine(maps, found.mask_probs)
  )


def _to_decoded(found, num_dropped):
  return types.Decoded(
    masks=types.FrameMasks(probs=found.mask_probs),
    scores=found.scores,
    labels=found.labels,
    valid=found.scores > 0,
    num_dropped=num_dropped,
  )


def _capacities(largest: int) -> tuple[int, ...]:
  """Returns 128, 384, 768, 1536, ... below `largest`, then `largest`.

  Decoding time grows with the capacity, but each takes half a second to trace
  and compile, on the CPU, as long as decoding 500 candidates.
  """
  ladder = [128]
  while ladder[-1] < largest:
    ladder.append(384 * 2 ** (len(ladder) - 1))
  return (*ladder[:-1], largest)
