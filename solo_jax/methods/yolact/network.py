"""The YOLACT network (https://arxiv.org/abs/1904.02689, figure 2).

Shape letters: B images, H, W padded input, A priors of all levels, K classes,
h, w prototype resolution, k prototypes, M detections.
"""

import dataclasses
import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.methods.yolact.detections import (
  Detections,
  DetectionSettings,
  find_detections,
)
from solo_jax.methods.yolact.heads import (
  MaskScoreHead,
  PriorHead,
  PrototypeHead,
  make_conv,
)
from solo_jax.methods.yolact.priors import Priors, make_priors
from solo_jax.methods.yolact.prototypes import mask_probs
from solo_jax.methods.yolact.pyramid import Pyramid
from solo_jax.nn.layers import normalize_image


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictions:
  """Predictions of the heads.

  Attributes:
    class_logits: Background first. [B, A, K + 1] float32.
    box_codes: [B, A, 4] float32.
    coefficients: In [-1, 1]. [B, A, k] float32.
    prototypes: >= 0. [B, h, w, k] float.
    semantic_logits: Classes of pixels at half the resolution of the
      prototypes, only used in training. [B, h / 2, w / 2, K] float32.
    priors: [A, 4] float32.
    level_sizes: Number of priors of each level. Static.
  """

  class_logits: jax.Array
  box_codes: jax.Array
  coefficients: jax.Array
  prototypes: jax.Array
  semantic_logits: jax.Array
  priors: np.ndarray
  level_sizes: tuple[int, ...] = dataclasses.field(metadata=dict(static=True))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Outputs:
  """Detections and their masks.

  Attributes:
    detections: [B, M] of them. With mask scoring their scores are those of the
      masks, and they are not sorted.
    mask_probs: 0 outside the boxes. [B, M, h, w] float32 in [0, 1].
  """

  detections: Detections
  mask_probs: jax.Array


class YOLACT(nn.Module, kw_only=True):
  """YOLACT and YOLACT++ on a given backbone.

  Attributes:
    backbone: Module returning (c2, c3, c4, c5), strides 4, 8, 16, 32.
    num_classes: K.
    fpn_channels: Channels of the pyramid and of the heads.
    is_rectified: See `Pyramid`.
    p6_source: See `Pyramid.source`.
    num_protos: k.
    priors: Sizes and ratios of the priors.
    mask_score_channels: See `MaskScoreHead`; empty: masks are not scored.
    detection: How detections are chosen.
    mean: Per channel, 0..255.
    std: Per channel.
    channel_order: 'rgb' or 'bgr'.
    dtype: Compute type.
  """

  backbone: nn.Module
  num_classes: int
  fpn_channels: int
  is_rectified: bool
  p6_source: str
  num_protos: int
  priors: Priors
  mask_score_channels: tuple[int, ...]
  detection: DetectionSettings
  mean: Sequence[float]
  std: Sequence[float]
  channel_order: str
  dtype: jnp.dtype

  def setup(self):  # noqa: D102
    channels, dtype = self.fpn_channels, self.dtype
    self.pyramid = Pyramid(channels, self.is_rectified, self.p6_source, dtype)
    self.prior_head = PriorHead(
      channels,
      self.num_classes,
      self.num_protos,
      self.priors.per_position,
      dtype,
    )
    self.prototype_head = PrototypeHead(channels, self.num_protos, dtype)
    self.semantic = make_conv(self.num_classes, 1, None, dtype=dtype)
    if self.mask_score_channels:
      self.mask_score_head = MaskScoreHead(
        self.mask_score_channels, self.num_classes, dtype
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
    predictions = self.predict(image, image_size, train=train, row=row)
    return self.detect(predictions, image_size, image.shape[1:3])

  def predict(
    self,
    image: jax.Array,
    image_size: jax.Array,
    *,
    train: bool,
    row: jax.Array | None = None,
  ) -> Predictions:
    """Returns the heads' predictions; arguments as in `__call__`."""
    x = normalize_image(
      image,
      image_size,
      mean=self.mean,
      std=self.std,
      channel_order=self.channel_order,
      dtype=self.dtype,
    )
    features = self.backbone(x, train=train, row=row)
    return self.head(features, image.shape[1:3])

  def head(
    self, features: Sequence[jax.Array], padded_size: tuple[int, int]
  ) -> Predictions:
    """Returns the heads' predictions on C2 to C5 of an [H, W] input."""
    pyramid = self.pyramid(features[1:])
    logits, codes, coefficients = self.prior_head(pyramid)
    map_sizes = [x.shape[1:3] for x in pyramid]
    return Predictions(
      class_logits=logits,
      box_codes=codes,
      coefficients=coefficients,
      prototypes=self.prototype_head(pyramid[0]),
      semantic_logits=self.semantic(pyramid[0]).astype(jnp.float32),
      priors=make_priors(self.priors, map_sizes, padded_size),
      level_sizes=tuple(h * w * self.priors.per_position for h, w in map_sizes),
    )

  def detect(
    self,
    predictions: Predictions,
    image_size: jax.Array,
    padded_size: tuple[int, int],
  ) -> Outputs:
    """Returns the detections among the priors.

    Args:
      predictions: Predictions of the heads.
      image_size: Valid (height, width) of each image. [B, 2] int32.
      padded_size: (H, W).

    Returns:
      Detections and masks.
    """
    find = functools.partial(
      find_detections,
      priors=predictions.priors,
      level_sizes=predictions.level_sizes,
      settings=self.detection,
    )
    detections = jax.vmap(find)(
      predictions.class_logits,
      predictions.box_codes,
      predictions.coefficients,
      image_size,
    )
    probs = jax.vmap(functools.partial(mask_probs, padded_size=padded_size))(
      predictions.prototypes, detections.coefficients, detections.boxes_xyxy
    )
    if self.mask_score_channels:
      found = self.score_masks(probs.reshape(-1, *probs.shape[2:]))
      found = found.reshape(*probs.shape[:2], -1)
      of_class = jnp.take_along_axis(found, detections.labels[..., None], -1)
      scores = detections.scores * of_class[..., 0]
      detections = dataclasses.replace(detections, scores=scores)
    return Outputs(detections=detections, mask_probs=probs)

  def score_masks(self, masks: jax.Array) -> jax.Array:
    """Returns `MaskScoreHead` of masks. [n, h, w] -> [n, K]."""
    return self.mask_score_head(masks)
