"""The parts that all region-based networks share.

Shape letters: B images, H, W padded input, R boxes per image, K classes, s
side of pooled features, C channels.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.methods.regions.anchors import STRIDES, Anchors, make_anchors
from solo_jax.methods.regions.box_coding import clip, decode
from solo_jax.methods.regions.detections import (
  Detections,
  DetectionSettings,
  select_detections,
)
from solo_jax.methods.regions.heads import BoxHead, ProposalHead
from solo_jax.methods.regions.initial_values import KERNELS
from solo_jax.methods.regions.proposals import (
  Proposals,
  Selection,
  select_proposals,
)
from solo_jax.methods.regions.pyramid import Pooling, pool_boxes
from solo_jax.nn.fpn import FPN
from solo_jax.nn.layers import normalize_image

BOX_SIZE = 7  # side of the features that a box head reads
STAGE_SCORES = ("probabilities", "logits")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
  """The input of the heads.

  Attributes:
    pyramid: P2 to P6. [B, h, w, C] float each.
    semantic: Map that is added to the features of every box, at the stride of
      P3, [B, h, w, C] float; None where a network has none.
    semantic_logits: Classes of pixels, at the stride of P3,
      [B, h, w, classes] float32; None without a semantic branch.
  """

  pyramid: tuple[jax.Array, ...]
  semantic: jax.Array | None = None
  semantic_logits: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class ProposalOutputs:
  """Raw outputs of the proposal head, level after level.

  Attributes:
    logits: [B, anchors] float32 of each level.
    codes: [B, anchors, 4] float32 of each level.
    anchors: [anchors, 4] float32 of each level.
    map_sizes: (h, w) of each level. Static.
  """

  logits: tuple[jax.Array, ...]
  codes: tuple[jax.Array, ...]
  anchors: tuple[np.ndarray, ...]
  map_sizes: tuple[tuple[int, int], ...] = dataclasses.field(
    metadata=dict(static=True)
  )


class RegionNetwork(nn.Module, kw_only=True):
  """A region-based network; subclasses add masks, and `outputs`.

  Attributes:
    backbone: Module returning (c2, c3, c4, c5), strides 4, 8, 16, 32.
    num_classes: K.
    fpn_channels: Channels of the pyramid.
    norm: Normalisation of pyramid, box and mask convolutions: None, or see
      `layers.make_norm`.
    anchors: See `Anchors`.
    proposal_convs: 3x3 convolutions of the proposal head.
    select_train: Selection of proposals in training.
    select_test: Selection of proposals otherwise.
    pooling: How features of boxes are cut from the pyramid.
    box_convs: 3x3 convolutions of a box head.
    box_dense: Dense layers of a box head.
    dense_channels: Channels of these.
    dense_init: How dense layers start, see `initial_values`.
    pyramid_init: How the pyramid starts, see `initial_values`.
    box_classes: 'each': a box for each class, or 'all': one for all.
    stage_weights: Weights of the box codes of each stage; several stages are a
      cascade (https://arxiv.org/abs/1712.00726).
    stage_scores: Mean over the stages of 'probabilities' (detectron2) or of
      'logits' (mmdet).
    stage_gradient: Share of a box head's gradient that reaches the pyramid:
      1, or 1 / stages (detectron2's cascade).
    detection: Thresholds of detections.
    mean: Channel means, in `channel_order`.
    std: Channel standard deviations, in `channel_order`.
    channel_order: 'rgb' or 'bgr': the order that the backbone expects.
    axis_name: Mapped device axis of norm 'sync'.
    dtype: Compute type of the convolutions.
  """

  backbone: nn.Module
  num_classes: int
  fpn_channels: int
  norm: str | None
  anchors: Anchors
  proposal_convs: int
  select_train: Selection
  select_test: Selection
  pooling: Pooling
  box_convs: int
  box_dense: int
  dense_channels: int
  dense_init: str
  pyramid_init: str
  box_classes: str
  stage_weights: tuple[tuple[float, ...], ...]
  stage_scores: str
  stage_gradient: float
  detection: DetectionSettings
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  channel_order: str
  axis_name: str | None
  dtype: jnp.dtype

  def setup(self):  # noqa: D102
    if self.stage_scores not in STAGE_SCORES:
      raise ValueError(
        f"stage_scores must be in {STAGE_SCORES}, got {self.stage_scores!r}."
      )
    self.fpn = FPN(
      self.fpn_channels,
      norm=self.norm,
      axis_name=self.axis_name,
      kernel_init=KERNELS[self.pyramid_init],
      dtype=self.dtype,
    )
    self.proposal_head = ProposalHead(
      num_convs=self.proposal_convs,
      channels=self.fpn_channels,
      num_anchors=len(self.anchors.ratios),
      dtype=self.dtype,
    )
    self.box_heads = [
      BoxHead(
        num_classes=self.num_classes,
        box_classes=self.box_classes,
        num_convs=self.box_convs,
        conv_channels=self.fpn_channels,
        num_dense=self.box_dense,
        dense_channels=self.dense_channels,
        dense_init=self.dense_init,
        norm=self.norm,
        axis_name=self.axis_name,
        dtype=self.dtype,
      )
      for _ in self.stage_weights
    ]

  def __call__(
    self,
    image: jax.Array,
    image_size: jax.Array,
    *,
    train: bool,
    row: jax.Array | None = None,
  ) -> Any:
    """Returns detections.

    Args:
      image: Padded RGB pixels; H and W are multiples of 32. [B, H, W, 3] uint8.
      image_size: Valid (height, width). [B, 2] int32.
      train: Whether batch norm uses and updates batch statistics.
      row: Row of each image in the global batch, for a backbone that draws.

    Returns:
      The outputs of `outputs`.
    """
    features = self.features(image, image_size, train=train, row=row)
    return self.outputs(features, image_size, train=train)

  def features(
    self,
    image: jax.Array,
    image_size: jax.Array,
    *,
    train: bool,
    row: jax.Array | None = None,
  ) -> Features:
    """Runs backbone and pyramid on pixels; arguments as in `__call__`."""
    x = normalize_image(
      image,
      image_size,
      mean=self.mean,
      std=self.std,
      channel_order=self.channel_order,
      dtype=self.dtype,
    )
    return self.features_of(x, train=train, row=row)

  def features_of(
    self, x: jax.Array, *, train: bool, row: jax.Array | None = None
  ) -> Features:
    """Runs backbone and pyramid on a normalised input [B, H, W, 3]."""
    levels = self.backbone(x, train=train, row=row)
    return Features(pyramid=self.fpn(levels, train=train))

  def propose(self, features: Features) -> ProposalOutputs:
    """Runs the proposal head on all levels."""
    pyramid = features.pyramid
    map_sizes = tuple(tuple(x.shape[1:3]) for x in pyramid)
    logits, codes = zip(*map(self.proposal_head, pyramid), strict=True)
    return ProposalOutputs(
      logits=logits,
      codes=codes,
      anchors=make_anchors(
        self.anchors,
        map_sizes,
        tuple(STRIDES[0] * size for size in map_sizes[0]),
      ),
      map_sizes=map_sizes,
    )

  def select(
    self, outputs: ProposalOutputs, image_size: jax.Array, *, train: bool
  ) -> Proposals:
    """Returns the selected proposals, which carry no gradient."""
    return select_proposals(
      outputs.logits,
      outputs.codes,
      outputs.anchors,
      image_size,
      self.select_train if train else self.select_test,
    )

  def box_stage(
    self,
    stage: int,
    features: Features,
    boxes: jax.Array,
    valid: jax.Array,
    *,
    train: bool,
  ) -> tuple[jax.Array, jax.Array]:
    """Returns the classes and offsets of boxes.

    Args:
      stage: Stage of the cascade.
      features: Features of the image.
      boxes: [B, R, 4] float32.
      valid: Which are real. [B, R] bool.
      train: Whether batch norm uses batch statistics.

    Returns:
      See `BoxHead`; meaningless if not valid.
    """
    x = self.pool(features, boxes, valid, BOX_SIZE)
    if self.stage_gradient != 1:
      share = self.stage_gradient
      x = share * x + jax.lax.stop_gradient((1 - share) * x)
    return self.box_heads[stage](x, train=train)

  def pool(
    self, features: Features, boxes: jax.Array, valid: jax.Array, size: int
  ) -> jax.Array:
    """Returns boxes pooled to [B, R, size, size, C], see `pool_boxes`."""
    return pool_boxes(
      features.pyramid, boxes, valid, size=size, pooling=self.pooling
    )

  def decode_boxes(
    self, stage: int, codes: jax.Array, boxes: jax.Array
  ) -> jax.Array:
    """Returns the decoded boxes of a stage, without gradient, not clipped.

    Args:
      stage: Stage of the cascade.
      codes: [..., 4] float32.
      boxes: Input boxes of the stage. [..., 4] float32.

    Returns:
      [..., 4] float32.
    """
    return decode(
      jax.lax.stop_gradient(codes),
      boxes,
      self.stage_weights[stage],
      log_clamp=self.select_test.log_clamp,
    )

  def detect(
    self, features: Features, image_size: jax.Array, *, train: bool
  ) -> Detections:
    """Runs all stages on the proposals and selects detections."""
    proposals = self.select(self.propose(features), image_size, train=False)
    boxes, valid = proposals.boxes, proposals.valid
    scores = 0.0
    last = len(self.stage_weights) - 1
    for stage in range(last + 1):
      logits, codes = self.box_stage(stage, features, boxes, valid, train=train)
      if self.stage_scores == "logits":
        scores += logits
      else:
        scores += jax.nn.softmax(logits)
      if stage < last:
        boxes = clip(
          self.decode_boxes(stage, codes[:, :, 0], boxes), image_size
        )
    scores /= last + 1
    probs = jax.nn.softmax(scores) if self.stage_scores == "logits" else scores
    boxes = self.decode_boxes(last, codes, boxes[:, :, None])
    boxes = jax.vmap(clip)(boxes, image_size[:, None])
    return select_detections(boxes, probs[..., :-1], valid, self.detection)
