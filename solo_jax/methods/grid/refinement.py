"""Masks of the whole frame, refined by PointRend's point head.

https://arxiv.org/abs/1912.08193. A mask is doubled once, and its least
certain cells are recomputed from features. Decoding is a function of the
network's outputs alone, so the outputs contain the head's weights, as they
contain the kernels of dynamic convolutions.

Shape letters: B images, R masks per image, P points, C channels, h, w mask
resolution.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax import types
from solo_jax.losses.cross_entropy import sigmoid_cross_entropy
from solo_jax.losses.instance_sum import instance_sum
from solo_jax.methods.grid.masks import Factor, MaskLoss, mask_logits
from solo_jax.methods.grid.targets import Targets
from solo_jax.methods.point_rend.heads import PointHead
from solo_jax.methods.point_rend.subdivision import Subdivision, subdivide
from solo_jax.methods.queries.points import (
  read_mask_points,
  read_points,
  uncertain_points,
)
from solo_jax.nn.bilinear import sample_points

NUM_DENSE = 3  # layers of the head
DOUBLING = Subdivision(steps=1, num_points=28**2)
NUM_POINTS = 14**2  # that train a mask,
NUM_CANDIDATES = 3 * NUM_POINTS  # drawn for the least certain ones,
NUM_UNIFORM = NUM_POINTS // 4  # and those that are always taken
MARGIN = 0.25  # of a box's sides around it, where points are taken too
PLASTIC = 1.324717957244746
LIMIT = 10.0  # of coarse logits, from which a mask is certain


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Refiner:
  """What masks are refined from.

  Attributes:
    maps: Feature maps, each of its own size. [B, h', w', C] float.
    weights: Parameters of the head, repeated for each image. [B, ...].
  """

  maps: tuple[jax.Array, ...]
  weights: Any

  def logits(self, points: jax.Array, coarse: jax.Array) -> jax.Array:
    """Returns refined masks of one image (leaves without B) at points.

    Args:
      points: (x, y) in [0, 1] of the frame. [R, P, 2] float32.
      coarse: Logits of the coarse masks there. [R, P] float32.

    Returns:
      Logits. [R, P] float32.
    """
    fine = []
    for x in self.maps:
      height, width, channels = x.shape
      places = points.reshape(-1, 2) * jnp.array([width, height], points.dtype)
      fine.append(sample_points(x, places).reshape(*coarse.shape, channels))
    head = make_head(len(self.weights["dense_0"]["bias"]), self.maps[0].dtype)
    coarse = jnp.clip(coarse, -LIMIT, LIMIT)[..., None]
    values = head.apply(
      {"params": self.weights}, jnp.concatenate(fine, axis=-1), coarse
    )
    return values[..., 0]


def make_head(channels: int, dtype: jnp.dtype) -> PointHead:
  """Returns the point head: one for the masks of all classes."""
  return PointHead(
    num_classes=1,
    channels=channels,
    num_dense=NUM_DENSE,
    dtype=dtype,
  )


def pass_coarse(maps: tuple[jax.Array, ...]) -> Refiner:
  """Returns a refiner whose refined masks are the coarse ones.

  Args:
    maps: See `Refiner`.

  Returns:
    The refiner, with one channel per layer.
  """
  num_channels = sum(x.shape[-1] for x in maps)
  shapes = jax.eval_shape(
    make_head(1, jnp.float32).init,
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, num_channels), jnp.float32),
    jax.ShapeDtypeStruct((1, 1), jnp.float32),
  )
  weights = jax.tree.map(lambda x: jnp.zeros(x.shape), shapes["params"])
  last = weights["logits"]["kernel"]
  weights["logits"]["kernel"] = last.at[-1].set(1.0)
  return Refiner(maps=maps, weights=repeat(weights, len(maps[0])))


def repeat(weights: Any, num_images: int) -> Any:
  """Returns weights with an axis of images. [B, ...]."""
  return jax.tree.map(
    lambda x: jnp.broadcast_to(x, (num_images, *x.shape)), weights
  )


def refine(refiner: Refiner, probs: jax.Array) -> jax.Array:
  """Returns masks of twice the size, with the least certain cells recomputed.

  Args:
    refiner: Refiner of one image.
    probs: [R, h, w] float32 in [0, 1].

  Returns:
    [R, 2 h, 2 w] float32 in [0, 1].
  """
  bound = jax.nn.sigmoid(LIMIT)
  probs = jnp.clip(probs, 1 - bound, bound)
  logits = jnp.log(probs) - jnp.log1p(-probs)
  index = jnp.arange(len(logits))

  def read(points):
    return refiner.logits(points, read_points(logits, index, points))

  return jax.nn.sigmoid(subdivide(logits, read, DOUBLING))


def point_losses(
  refiner: Refiner,
  logits: jax.Array,
  boxes: jax.Array,
  targets: types.PackedMasks,
) -> jax.Array:
  """Returns the loss of refined masks, a mean of cross-entropies at points.

  Points are taken in the box of the instance and a margin around it. Three
  quarters are the candidates where the coarse mask is least certain. All points
  come from an evenly spread sequence instead of random numbers; as boxes
  differ, they are at different places in each object.

  Args:
    refiner: Refiner of one image.
    logits: Coarse masks. [R, h, w] float32.
    boxes: Boxes of their instances, as shares of the frame. [R, 4] float32.
    targets: [R] masks.

  Returns:
    [R] float32.
  """
  low, side = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
  spread = even_points(NUM_CANDIDATES + NUM_UNIFORM)
  points = low - MARGIN * side + (1 + 2 * MARGIN) * side * spread
  points = jnp.clip(points, 0, 1)
  index = jnp.arange(len(logits))
  points = uncertain_points(
    logits,
    index,
    points[:, :NUM_CANDIDATES],
    points[:, NUM_CANDIDATES:],
    NUM_POINTS,
  )
  coarse = read_points(logits, index, points)
  batch_of_one = jax.tree.map(lambda x: x[None], (targets, points))
  (wanted,) = read_mask_points(*batch_of_one)
  entropy = sigmoid_cross_entropy(refiner.logits(points, coarse), wanted)
  return jnp.mean(entropy, axis=-1)


def refined_sum(
  factor: Factor,
  refiner: Refiner,
  batch: types.Batch,
  pairs: Targets,
  *,
  mask_loss: MaskLoss,
) -> jax.Array:
  """Returns the summed loss of coarse masks and of their refined points.

  Args:
    factor: Factor of the coarse masks.
    refiner: Refiner of the batch.
    batch: Its masks have the resolution of refined masks; coarse ones train on
      their averages.
    pairs: Which instance each row of the factor's kernel belongs to.
    mask_loss: Loss of a coarse mask.

  Returns:
    The sum over images and pairs, [] float32.
  """
  coarse = batch.masks.coarsen(2**DOUBLING.steps)
  height, width = (batch.masks.stride * side for side in batch.masks.size)
  boxes = batch.boxes_xyxy / jnp.array([width, height] * 2, jnp.float32)
  boxes = jnp.take_along_axis(boxes, pairs.instance[..., None], axis=1)

  def loss(pixels, rows, targets):
    (feature, refiner), (kernel, bias, boxes) = pixels, rows
    coarse, fine = targets
    logits = mask_logits(feature, kernel, bias, coarse.size)
    values = mask_loss((logits,), coarse.unpack())
    values += point_losses(refiner, logits, boxes, fine)
    return values, values

  total, _ = instance_sum(
    loss,
    (factor.feature, refiner),
    (factor.kernel, factor.bias, boxes),
    (coarse, batch.masks),
    pairs.instance,
    pairs.valid,
  )
  return jnp.sum(total)


def even_points(number: int) -> jax.Array:
  """Returns points spread evenly over a square, as is each part of them.

  Args:
    number: Number of points.

  Returns:
    (x, y) in [0, 1). [number, 2] float32.
  """
  # Multiples of powers of the plastic number: the sequence R2 by M. Roberts.
  steps = np.arange(1, number + 1)[:, None] / PLASTIC ** np.array([1, 2])
  return jnp.asarray((0.5 + steps) % 1, jnp.float32)
