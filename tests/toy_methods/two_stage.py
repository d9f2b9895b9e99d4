"""Proposed boxes, sampled with the ground truth, refined by a second stage."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from solo_jax import types
from solo_jax.methods.interface import Method
from solo_jax.nn.draws import row_keys
from solo_jax.nn.layers import normalize_image

CELLS = 14  # of a mask, per side of its box
STRIDE = 16  # of the map with a proposal in each cell
MAP_STRIDE = 4  # of the map that boxes are cut from


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Regions:
  """Outputs of the second stage for R boxes of each image."""

  category_logits: jax.Array  # [B, R, K + 1], the last no object
  boxes_xyxy: jax.Array  # [B, R, 4], refined
  mask_logits: jax.Array  # [B, R, CELLS, CELLS]


def cut(maps, boxes, stride):
  """Samples each box of an image on a grid, as two products with hats.

  Args:
    maps: One for each box, or one for all: [R or 1, h, w, C].
    boxes: Continuous network coordinates. [R, 4].
    stride: Network pixels per cell of the maps.

  Returns:
    [R, CELLS, CELLS, C].
  """

  def hats(low, high, length):
    at = (jnp.arange(CELLS) + 0.5) / CELLS
    at = (low[:, None] + at * (high - low)[:, None]) / stride - 0.5
    at = jnp.clip(at, 0, length - 1)
    return jnp.maximum(1 - jnp.abs(at[..., None] - jnp.arange(length)), 0)

  rows = hats(boxes[:, 1], boxes[:, 3], maps.shape[1])
  columns = hats(boxes[:, 0], boxes[:, 2], maps.shape[2])
  maps = jnp.broadcast_to(maps, (len(boxes), *maps.shape[1:]))
  return jnp.einsum("ryh,rhwc,rxw->ryxc", rows, maps, columns)


def move(boxes, deltas, sizes):
  """Shifts centres and scales sides: of (x, y, w, h) by bounded deltas."""
  centers = (boxes[..., :2] + boxes[..., 2:]) / 2
  centers = centers + jnp.tanh(deltas[..., :2]) * sizes
  half = sizes * jnp.exp(jnp.tanh(deltas[..., 2:])) / 2
  return jnp.concatenate([centers - half, centers + half], -1)


def iou(a, b):
  """[R, 4] and [N, 4] -> [R, N]."""

  def area(x):
    return jnp.prod(jnp.maximum(x[..., 2:] - x[..., :2], 0), -1)

  low = jnp.maximum(a[:, None, :2], b[None, :, :2])
  high = jnp.minimum(a[:, None, 2:], b[None, :, 2:])
  both = area(jnp.concatenate([low, high], -1))
  return both / jnp.maximum(area(a)[:, None] + area(b)[None] - both, 1e-6)


class Network(nn.Module):
  """Both stages; the loss calls them one by one."""

  backbone: nn.Module
  num_classes: int
  num_proposals: int
  channels: int
  mean: tuple[float, ...]
  std: tuple[float, ...]
  channel_order: str
  dtype: jnp.dtype

  def setup(self):
    self.proposals = nn.Conv(5, (3, 3))
    self.pixels = nn.Conv(self.channels, (3, 3))
    self.hidden = nn.Dense(self.channels)
    self.category = nn.Dense(self.num_classes + 1)
    self.deltas = nn.Dense(4, kernel_init=nn.initializers.zeros)
    self.mask_conv = nn.Conv(self.channels, (3, 3))
    self.mask = nn.Conv(1, (1, 1))

  def __call__(self, image, image_size, *, train, row=None):
    maps = self.features(image, image_size, train=train, row=row)
    logits, boxes = self.propose(maps)
    _, order = jax.lax.top_k(logits, self.num_proposals)
    boxes = jnp.take_along_axis(boxes, order[..., None], 1)
    return self.roi_heads(maps, boxes)

  def features(self, image, image_size, *, train, row):
    x = normalize_image(
      image,
      image_size,
      mean=self.mean,
      std=self.std,
      channel_order=self.channel_order,
      dtype=self.dtype,
    )
    fine, _, coarse, _ = self.backbone(x, train=train, row=row)
    return nn.relu(self.pixels(fine)), coarse

  def propose(self, maps):
    """Objectness [B, A] and boxes [B, A, 4], one for each cell."""
    x = self.proposals(maps[1])
    rows, columns = x.shape[1:3]
    y, x_ = jnp.mgrid[:rows, :columns]
    corner = jnp.stack([x_, y], -1) * STRIDE
    cells = jnp.concatenate([corner, corner + STRIDE], -1).astype(jnp.float32)
    boxes = move(cells, x[..., 1:], jnp.full(2, float(STRIDE)))
    return x[..., 0].reshape(len(x), -1), boxes.reshape(len(x), -1, 4)

  def roi_heads(self, maps, boxes):
    x = jax.vmap(lambda m, b: cut(m[None], b, MAP_STRIDE))(maps[0], boxes)
    pooled = x.reshape(*x.shape[:2], 2, CELLS // 2, 2, CELLS // 2, -1)
    pooled = pooled.mean((3, 5)).reshape(*x.shape[:2], -1)
    hidden = nn.relu(self.hidden(pooled))
    sizes = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 1.0)
    mask = self.mask(nn.relu(self.mask_conv(x)))[..., 0]
    return Regions(
      self.category(hidden), move(boxes, self.deltas(hidden), sizes), mask
    )


def proposal_loss(logits, boxes, targets, valid, columns):
  """The cell with an instance's centre answers for it. Of one image."""
  center = (targets[:, :2] + targets[:, 2:]) / 2 // STRIDE
  cell = (center[:, 1] * columns + center[:, 0]).astype(jnp.int32)
  cell = jnp.clip(cell, 0, len(logits) - 1)
  is_object = jnp.zeros(len(logits)).at[cell].max(valid.astype(jnp.float32))
  objectness = optax.sigmoid_binary_cross_entropy(logits, is_object).mean()
  distance = jnp.abs(boxes[cell] - targets).mean(-1) / STRIDE
  distance = jnp.sum(valid * distance) / jnp.maximum(valid.sum(), 1)
  return objectness + distance


def sample(key, boxes, targets, valid, *, num_samples, min_iou):
  """Draws boxes of one image, those of the ground truth among them.

  Positives come first; which of them, and which others, is drawn.

  Returns:
    boxes [R, 4], the instance of each [R] and whether it is one [R] bool.
  """
  boxes = jnp.concatenate([boxes, targets])
  is_real = jnp.concatenate([jnp.ones(len(boxes) - len(valid), bool), valid])
  overlaps = jnp.where(valid, iou(boxes, targets), 0.0)
  positive = (overlaps.max(1) >= min_iou) & is_real
  drawn = jax.random.uniform(key, positive.shape) + positive
  _, chosen = jax.lax.top_k(jnp.where(is_real, drawn, -1.0), num_samples)
  return boxes[chosen], overlaps.argmax(1)[chosen], positive[chosen]


def region_loss(found, instance, positive, sampled, batch):
  """Classes, boxes and masks of the sampled boxes. Of one image."""
  boxes, masks, labels = batch
  none = found.category_logits.shape[-1] - 1
  category = optax.softmax_cross_entropy_with_integer_labels(
    found.category_logits, jnp.where(positive, labels[instance], none)
  ).mean()
  target = cut(masks[instance][..., None], sampled, MAP_STRIDE)[..., 0]
  mask = optax.sigmoid_binary_cross_entropy(found.mask_logits, target)
  box = jnp.abs(found.boxes_xyxy - boxes[instance]).mean(-1) / STRIDE
  count = jnp.maximum(positive.sum(), 1)
  return (
    category,
    jnp.sum(positive * box) / count,
    jnp.sum(positive * mask.mean((1, 2))) / count,
  )


def compute_loss(network, batch, **settings):
  maps = network.features(
    batch.image, batch.image_size, train=True, row=batch.row
  )
  logits, boxes = network.propose(maps)
  proposal = jax.vmap(
    functools.partial(proposal_loss, columns=maps[1].shape[2])
  )(logits, boxes, batch.boxes_xyxy, batch.valid)
  keys = row_keys(network.make_rng("draws"), batch.row)
  sampled, instance, positive = jax.vmap(functools.partial(sample, **settings))(
    keys, jax.lax.stop_gradient(boxes), batch.boxes_xyxy, batch.valid
  )
  found = network.roi_heads(maps, sampled)
  category, box, mask = jax.vmap(region_loss)(
    found,
    instance,
    positive,
    sampled,
    (batch.boxes_xyxy, batch.masks.unpack(), batch.labels),
  )
  terms = dict(
    proposal_loss=proposal, category_loss=category, box_loss=box, mask_loss=mask
  )
  terms = {k: jnp.mean(batch.image_valid * x) for k, x in terms.items()}
  return sum(terms.values()), terms


def decode_regions(
  found, image_size, *, score_threshold, max_detections
) -> types.Decoded:
  probs = nn.softmax(found.category_logits)[..., :-1]
  scores, order = jax.lax.top_k(probs.max(-1), max_detections)
  limits = jnp.tile(image_size[:, None, ::-1], 2)
  boxes = jnp.clip(found.boxes_xyxy, 0, limits)
  boxes = jnp.take_along_axis(boxes, order[..., None], 1)
  masks = nn.sigmoid(found.mask_logits)
  valid = scores > score_threshold
  num_found = jnp.sum(probs.max(-1) > score_threshold, 1, dtype=jnp.int32)
  return types.Decoded(
    masks=types.BoxMasks(
      probs=jnp.take_along_axis(masks, order[..., None, None], 1),
      boxes_xyxy=boxes,
    ),
    scores=jnp.where(valid, scores, 0.0),
    labels=jnp.take_along_axis(probs.argmax(-1), order, 1).astype(jnp.int32),
    valid=valid,
    num_dropped=num_found - jnp.sum(valid, 1, dtype=jnp.int32),
    boxes_xyxy=boxes,
  )


def make(backbone, *, num_classes, network, loss, decode, axis_name) -> Method:
  """As `Row.make`; the loss is a mean over images, no device counts."""
  del axis_name
  return Method(
    network=Network(backbone=backbone, num_classes=num_classes, **network),
    loss=functools.partial(compute_loss, **loss),
    decode=functools.partial(
      decode_regions,
      score_threshold=decode["score_threshold"],
      max_detections=decode["max_detections"],
    ),
  )


def problems(config):
  """Finds more detections than there are proposals."""
  proposals = config["network"]["num_proposals"]
  if config["decode"]["max_detections"] <= proposals:
    return []
  return [
    f"network.num_proposals is {proposals}, fewer than decode.max_detections"
  ]
