"""The QueryInst network (https://arxiv.org/abs/2105.01928, figure 2).

Shape letters: B images, H, W padded input, N proposals, K classes, C channels,
M detections.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.methods.queryinst.heads import BoxHead, MaskHead, xavier
from solo_jax.methods.regions.box_coding import decode
from solo_jax.methods.regions.pyramid import Pooling, pool_boxes
from solo_jax.nn.fpn import FPN
from solo_jax.nn.layers import normalize_image

BOX_SIZE = 7  # side of the features that a box head reads
MASK_SIZE = 14  # of those that a mask head reads; masks are twice as large
CODE_WEIGHTS = (2.0, 2.0, 1.0, 1.0)  # factors of the codes dx, dy, dw, dh


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
  """What a stage makes of its proposals.

  Attributes:
    class_logits: [B, N, K] float32.
    boxes_xyxy: Refined boxes, continuous network pixels. [B, N, 4] float32.
    queries: Features for the next stage. [B, N, C] float.
    mask_queries: Features for the masks. [B, N, C] float.
  """

  class_logits: jax.Array
  boxes_xyxy: jax.Array
  queries: jax.Array
  mask_queries: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Outputs:
  """Detections of the last stage, by decreasing score.

  Attributes:
    scores: [B, M] float32.
    labels: [B, M] int32.
    boxes_xyxy: Continuous network pixels. [B, M, 4] float32.
    mask_probs: [B, M, 28, 28] float32.
  """

  scores: jax.Array
  labels: jax.Array
  boxes_xyxy: jax.Array
  mask_probs: jax.Array


class QueryInst(nn.Module, kw_only=True):
  """QueryInst on a given backbone.

  Attributes:
    backbone: Module returning (c2, c3, c4, c5), strides 4, 8, 16, 32.
    num_classes: K.
    channels: C, also of the pyramid.
    num_proposals: N.
    proposal_init: A key of PROPOSALS.
    num_stages: Box heads.
    num_mask_stages: Last stages that also have a mask head; None: all.
    num_heads: Heads of the attention among proposals.
    hidden: Channels inside the perceptrons.
    dynamic_channels: Channels inside dynamic convolutions.
    num_class_layers: Dense layers before the classes.
    num_box_layers: Dense layers before the boxes.
    num_mask_convs: 3x3 convolutions of a mask head.
    pool_base_size: Square root of the area above which a box is read from P3.
    max_detections: M.
    mean: Per channel, 0..255.
    std: Per channel.
    channel_order: 'rgb' or 'bgr'.
    axis_name: Mapped device axis in training.
    dtype: Compute type.
  """

  backbone: nn.Module
  num_classes: int
  channels: int
  num_proposals: int
  proposal_init: str
  num_stages: int
  num_mask_stages: int | None
  num_heads: int
  hidden: int
  dynamic_channels: int
  num_class_layers: int
  num_box_layers: int
  num_mask_convs: int
  pool_base_size: float
  max_detections: int
  mean: Sequence[float]
  std: Sequence[float]
  channel_order: str
  axis_name: str | None
  dtype: jnp.dtype

  def setup(self):  # noqa: D102
    self.fpn = FPN(self.channels, dtype=self.dtype)
    init = PROPOSALS[self.proposal_init]
    self.proposal_boxes = self.param(
      "proposal_boxes", lambda _: init.boxes(self.num_proposals)
    )
    self.proposal_queries = self.param(
      "proposal_queries", init.queries, (self.num_proposals, self.channels)
    )
    shared = dict(
      num_classes=self.num_classes,
      dynamic_channels=self.dynamic_channels,
      dtype=self.dtype,
    )
    self.boxes = [
      BoxHead(
        num_heads=self.num_heads,
        hidden=self.hidden,
        num_class_layers=self.num_class_layers,
        num_box_layers=self.num_box_layers,
        box_init=init.codes,
        **shared,
      )
      for _ in range(self.num_stages)
    ]
    self.masks = [
      MaskHead(
        num_convs=self.num_mask_convs, axis_name=self.axis_name, **shared
      )
      for _ in range(self.num_mask_stages or self.num_stages)
    ]

  @property
  def pooling(self) -> Pooling:
    """Returns how the features of boxes are read from the pyramid."""
    return Pooling(
      base_size=self.pool_base_size,
      base_level=0,
      ratio_epsilon=1e-6,
      log_epsilon=0.0,
      is_aligned=True,
      num_samples=2,
    )

  def __call__(
    self,
    image: jax.Array,
    image_size: jax.Array,
    *,
    train: bool,
    row: jax.Array | None = None,
  ) -> Outputs:
    """Returns the detections of images.

    Args:
      image: RGB, padded. [B, H, W, 3] uint8.
      image_size: Valid (height, width) of each image. [B, 2] int32.
      train: Whether batch norms gather statistics.
      row: Row of each image in the global batch. [B] int32.

    Returns:
      Detections and masks.
    """
    pyramid = self.features(image, image_size, train=train, row=row)
    stages = self.find_boxes(pyramid, image_size)
    if self.is_initializing():
      # Inference reads only the masks of the last stage.
      for i in range(len(self.masks) - 1):
        self.find_masks(pyramid, stages[-1], i)
    logits = self.find_masks(pyramid, stages[-1], -1)
    return self.detect(stages[-1], logits)

  def features(
    self,
    image: jax.Array,
    image_size: jax.Array,
    *,
    train: bool,
    row: jax.Array | None = None,
  ) -> tuple[jax.Array, ...]:
    """Returns P2 to P5; arguments as in `__call__`."""
    x = normalize_image(
      image,
      image_size,
      mean=self.mean,
      std=self.std,
      channel_order=self.channel_order,
      dtype=self.dtype,
    )
    return self.fpn(self.backbone(x, train=train, row=row))[:4]

  def find_boxes(
    self, pyramid: Sequence[jax.Array], image_size: jax.Array
  ) -> tuple[Stage, ...]:
    """Returns all stages; each starts from the boxes of the previous one.

    Args:
      pyramid: P2 to P5. [B, h, w, C] float each.
      image_size: Valid (height, width) of each image. [B, 2] int32.

    Returns:
      The stages. Boxes of one have no gradient in the next.
    """
    boxes = first_boxes(self.proposal_boxes, image_size)
    queries = jnp.broadcast_to(
      self.proposal_queries, (len(image_size), *self.proposal_queries.shape)
    ).astype(self.dtype)
    stages = []
    for head in self.boxes:
      pooled = self.pool(pyramid, boxes, BOX_SIZE)
      logits, codes, queries, mask_queries = head(queries, pooled)
      boxes = decode(codes, boxes, CODE_WEIGHTS, log_clamp="both")
      stages.append(
        Stage(
          class_logits=logits,
          boxes_xyxy=boxes,
          queries=queries,
          mask_queries=mask_queries,
        )
      )
      boxes = jax.lax.stop_gradient(boxes)
    return tuple(stages)

  def find_masks(
    self,
    pyramid: Sequence[jax.Array],
    stage: Stage,
    index: int,
  ) -> jax.Array:
    """Returns the masks of a stage in inference, in its refined boxes.

    Args:
      pyramid: P2 to P5.
      stage: Boxes and queries, also a part of them. [B, n] each.
      index: Which mask head.

    Returns:
      Logits. [B, n, 28, 28, K] float32.
    """
    valid = jnp.ones(stage.boxes_xyxy.shape[:2], bool)
    pooled = self.pool(pyramid, stage.boxes_xyxy, MASK_SIZE)
    return self.masks[index](stage.mask_queries, pooled, valid, train=False)

  def pool(self, pyramid, boxes, size):
    """Returns the pooled features of boxes. [B, n, size, size, C]."""
    valid = jnp.ones(boxes.shape[:2], bool)
    return pool_boxes(pyramid, boxes, valid, size=size, pooling=self.pooling)

  def detect(self, stage: Stage, mask_logits: jax.Array) -> Outputs:
    """Returns the pairs of proposal and class of the highest scores.

    Args:
      stage: The last stage.
      mask_logits: Its masks. [B, N, 28, 28, K] float32.

    Returns:
      Detections; a proposal may be several of them.
    """
    scores = jax.nn.sigmoid(stage.class_logits)
    scores, index = jax.lax.top_k(
      scores.reshape(len(scores), -1), self.max_detections
    )
    proposal, labels = index // self.num_classes, index % self.num_classes
    take = jax.vmap(lambda logits, i, k: logits[i, ..., k])
    return Outputs(
      scores=scores,
      labels=labels.astype(jnp.int32),
      boxes_xyxy=jnp.take_along_axis(
        stage.boxes_xyxy, proposal[..., None], axis=1
      ),
      mask_probs=jax.nn.sigmoid(take(mask_logits, proposal, labels)),
    )


def whole_images(number: int) -> jax.Array:
  """Returns boxes that each cover an image, as published.

  Args:
    number: N.

  Returns:
    Centre and size (x, y, w, h) as shares of an image. [N, 4] float32.
  """
  return jnp.tile(jnp.array([0.5, 0.5, 1.0, 1.0]), (number, 1))


def grid_boxes(number: int) -> jax.Array:
  """Returns squares on a grid, each twice as wide as a cell of the grid.

  Sparse R-CNN (https://arxiv.org/abs/2011.12450) compares initial boxes: after
  long training they matter little.

  Args:
    number: N, a square number.

  Returns:
    As of `whole_images`, row by row.
  """
  side = math.isqrt(number)
  places = (jnp.arange(side) + 0.5) / side
  y, x = jnp.meshgrid(places, places, indexing="ij")
  size = jnp.full((side, side), 2 / side)
  return jnp.stack([x, y, size, size], axis=-1).reshape(-1, 4)


def one_query(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
  """Returns the same random features for all proposals.

  What one proposal learns about its part of the image then applies to all.

  Args:
    key: Random key.
    shape: N, C.

  Returns:
    [N, C] float32.
  """
  return jnp.tile(jax.random.normal(key, (1, shape[1])), (shape[0], 1))


@dataclasses.dataclass(frozen=True)
class ProposalInit:
  """Proposals before the first training step.

  Attributes:
    boxes: N -> shares as of `whole_images`.
    queries: Initialiser of the features, [N, C].
    codes: Initialiser of the layers that move boxes.
  """

  boxes: Callable[[int], jax.Array]
  queries: nn.initializers.Initializer
  codes: nn.initializers.Initializer


PROPOSALS = {
  "image": ProposalInit(whole_images, nn.initializers.normal(1.0), xavier),
  # All proposals start equal, and boxes stay in place until they learn to
  # move: random moves would match objects to boxes that do not contain them.
  "grid": ProposalInit(grid_boxes, one_query, nn.initializers.zeros),
}


def first_boxes(shares: jax.Array, image_size: jax.Array) -> jax.Array:
  """Returns learned boxes on images.

  Args:
    shares: Centre and size (x, y, w, h) as shares of an image. [N, 4] float32.
    image_size: Valid (height, width) of each image. [B, 2] int32.

  Returns:
    x1, y1, x2, y2 in continuous network pixels. [B, N, 4] float32.
  """
  center, size = shares[:, :2], shares[:, 2:]
  corners = jnp.concatenate([center - size / 2, center + size / 2], axis=1)
  factors = image_size[:, [1, 0, 1, 0]].astype(jnp.float32)
  return corners * factors[:, None]
