"""Mask R-CNN, Cascade Mask R-CNN and Hybrid Task Cascade.

https://arxiv.org/abs/1703.06870, https://arxiv.org/abs/1906.09756,
https://arxiv.org/abs/1901.07518. Shape letters: B images, R boxes per image,
M detections, K classes, C channels.
"""

import dataclasses

import jax
import jax.numpy as jnp

from solo_jax.methods.mask_rcnn.heads import (
  FUSED_LEVEL,
  MaskHead,
  SemanticHead,
)
from solo_jax.methods.regions.anchors import STRIDES
from solo_jax.methods.regions.detections import Detections
from solo_jax.methods.regions.network import Features, RegionNetwork
from solo_jax.methods.regions.pyramid import pool_level

MASK_SIZE = 14  # side of the features that a mask head reads
MASK_HEADS = ("one", "each")
MASK_SCORES = ("mean", "last")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Outputs:
  """Detections with masks.

  Attributes:
    detections: Boxes, classes and scores.
    mask_probs: Probabilities of the detected class. [B, M, 28, 28] float32.
    semantic_logits: Classes of pixels at the stride of P3,
      [B, h, w, classes] float32; None without a semantic branch.
  """

  detections: Detections
  mask_probs: jax.Array
  semantic_logits: jax.Array | None = None


class MaskRCNN(RegionNetwork, kw_only=True):
  """The network on a given backbone.

  Attributes:
    mask_convs: 3x3 convolutions of a mask head.
    mask_heads: 'one' for all stages, or 'each' stage one (mmdet).
    mask_flow: Whether the head of a stage is fed by that of the stage before
      (HTC).
    mask_scores: 'mean' over the heads' probabilities, or those of the 'last'.
    semantic_classes: Classes of pixels of the semantic branch; 0: none.
    mask_init: How the logits of masks start, see `initial_values`.
  """

  mask_convs: int
  mask_heads: str
  mask_flow: bool
  mask_scores: str
  semantic_classes: int
  mask_init: str

  def setup(self):  # noqa: D102
    super().setup()
    for name, values in (
      ("mask_heads", MASK_HEADS),
      ("mask_scores", MASK_SCORES),
    ):
      if getattr(self, name) not in values:
        raise ValueError(
          f"{name} must be in {values}, got {getattr(self, name)!r}."
        )
    self.masks = [
      MaskHead(
        num_classes=self.num_classes,
        num_convs=self.mask_convs,
        channels=self.fpn_channels,
        norm=self.norm,
        logits_init=self.mask_init,
        is_fed=self.mask_flow and stage > 0,
        axis_name=self.axis_name,
        dtype=self.dtype,
      )
      for stage in range(self.num_mask_heads)
    ]
    if self.semantic_classes:
      self.semantic = SemanticHead(
        num_classes=self.semantic_classes,
        channels=self.fpn_channels,
        num_convs=4,
        dtype=self.dtype,
      )

  @property
  def num_mask_heads(self) -> int:
    """Returns the number of stages that train a mask head."""
    return len(self.stage_weights) if self.mask_heads == "each" else 1

  def features_of(
    self, x: jax.Array, *, train: bool, row: jax.Array | None = None
  ) -> Features:
    """Returns the features of `RegionNetwork` and the semantic branch."""
    features = super().features_of(x, train=train, row=row)
    if not self.semantic_classes:
      return features
    logits, semantic = self.semantic(features.pyramid)
    return dataclasses.replace(
      features, semantic=semantic, semantic_logits=logits
    )

  def pool(
    self, features: Features, boxes: jax.Array, valid: jax.Array, size: int
  ) -> jax.Array:
    """Returns pooled boxes, including what the semantic branch adds."""
    x = super().pool(features, boxes, valid, size)
    if features.semantic is None:
      return x
    # The branch is read at the masks' size, and averaged for boxes.
    y = pool_level(
      features.semantic,
      boxes,
      valid,
      stride=STRIDES[FUSED_LEVEL],
      size=MASK_SIZE,
      pooling=self.pooling,
    )
    share = MASK_SIZE // size
    y = y.reshape(*y.shape[:2], size, share, size, share, -1)
    return x + jnp.mean(y, axis=(3, 5))

  def mask_stages(
    self,
    features: Features,
    boxes: jax.Array,
    labels: jax.Array,
    valid: jax.Array,
    *,
    last: int,
    train: bool,
  ) -> list[jax.Array]:
    """Returns the masks of boxes, each of its class.

    Args:
      features: Features of the images.
      boxes: [B, R, 4] float32.
      labels: [B, R] int32.
      valid: Which are real. [B, R] bool.
      last: Head up to which they run.
      train: Whether batch norm uses batch statistics.

    Returns:
      Logits of each head that ran: all up to `last` where they feed one
      another, or in inference; `last` alone otherwise. [B, R, 28, 28] float32
      each.
    """
    x = self.pool(features, boxes, valid, MASK_SIZE)
    batch, num_boxes = boxes.shape[:2]
    x = x.reshape(batch * num_boxes, *x.shape[2:])
    first = last if train and not self.mask_flow else 0
    before, found = None, []
    for head in self.masks[first : last + 1]:
      logits, before = head(x, before, train=train)
      logits = logits.reshape(batch, num_boxes, *logits.shape[1:])
      column = labels[:, :, None, None, None]
      logits = jnp.take_along_axis(logits, column, axis=-1)
      found.append(logits[..., 0])
    return found

  def outputs(
    self, features: Features, image_size: jax.Array, *, train: bool
  ) -> Outputs:
    """Returns detections with masks."""
    found = self.detect(features, image_size, train=train)
    stages = self.mask_stages(
      features,
      found.boxes,
      found.labels,
      found.valid,
      last=self.num_mask_heads - 1,
      train=False,
    )
    if self.mask_scores == "last":
      stages = stages[-1:]
    probs = sum(jax.nn.sigmoid(x) for x in stages) / len(stages)
    return Outputs(
      detections=found,
      mask_probs=probs,
      semantic_logits=features.semantic_logits,
    )
