"""The associative embedding network: class and instance of each pixel.

Follows https://arxiv.org/abs/1611.05424 with the outputs of
https://arxiv.org/abs/1906.11109. Shape letters: B images, H, W padded input,
h, w mask resolution, K classes, T tag dimensions, C channels.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.nn.conv import Conv
from solo_jax.nn.fpn import FPN
from solo_jax.nn.hourglass import StackedHourglass
from solo_jax.nn.layers import (
  ConvGN,
  append_coordinates,
  depth_to_space,
  normalize_image,
)
from solo_jax.nn.resize import resize_bilinear


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
  """Raw outputs of the network, one value per pixel.

  Attributes:
    category_logits: Logits of a softmax whose background logit is 0.
      [B, h, w, K] float32.
    embedding: Tag of each pixel; for a spatial embedding the place that the
      pixel votes for, (x, y) in units of `coordinate_unit` pixels. [B, h, w, T]
      float32.
    log_precision: log(1 / radius^2) of the instance in tag space. [B, h, w]
      float32.
    seed_logits: Logits of the membership of the pixel in its own instance. [B,
      h, w] float32.
    quality_logits: Logits of the IoU of the pixel's instance. [B, h, w]
      float32.
  """

  category_logits: jax.Array
  embedding: jax.Array
  log_precision: jax.Array
  seed_logits: jax.Array
  quality_logits: jax.Array

  def flatten(self) -> "Outputs":
    """Returns the maps with all pixels on one axis. [B, h * w, ...] each."""
    return jax.tree.map(lambda x: x.reshape(len(x), -1, *x.shape[3:]), self)


class AssociativeEmbedding(nn.Module):
  """Pyramid, merged at stride 4, a tower and one layer of predictions.

  Attributes:
    backbone: Module returning (c2, c3, c4, c5), strides 4, 8, 16, 32.
    num_classes: K.
    embedding: 'spatial': T = 2, a place and a learned bandwidth; 'tag': free
      vectors with a fixed radius.
    tag_channels: T.
    tag_radius: Radius of an instance in tag space; for a spatial embedding the
      initial one.
    coordinate_unit: Input pixels per unit of a spatial embedding.
    fpn_channels: Channels of the pyramid.
    head_channels: Channels of merged map and tower.
    num_head_convs: 3x3 convolutions of the tower.
    num_hourglasses: Hourglasses before the tower; 0: none.
    mask_stride: 4, or 2 by depth-to-space of the predictions.
    num_groups: Groups of every group norm.
    mean: Channel means, in `channel_order`.
    std: Channel standard deviations, in `channel_order`.
    channel_order: 'rgb' or 'bgr': the order that the backbone expects.
    dtype: Compute type of the convolutions.
  """

  backbone: nn.Module
  num_classes: int
  embedding: str
  tag_channels: int
  tag_radius: float
  coordinate_unit: float
  fpn_channels: int
  head_channels: int
  num_head_convs: int
  num_hourglasses: int
  mask_stride: int
  num_groups: int
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  channel_order: str
  dtype: jnp.dtype

  def setup(self):  # noqa: D102
    if self.embedding not in ("spatial", "tag"):
      raise ValueError(
        f"embedding must be 'spatial' or 'tag', not {self.embedding!r}"
      )
    if self.embedding == "spatial" and self.tag_channels != 2:
      raise ValueError(
        "a spatial embedding has 2 tag_channels (x, y), not "
        f"{self.tag_channels}"
      )
    self.fpn = FPN(self.fpn_channels, dtype=self.dtype)
    self.lateral = [self._conv_norm() for _ in range(4)]
    self.hourglasses = StackedHourglass(
      self.num_hourglasses,
      self.head_channels,
      depth=4,
      num_groups=self.num_groups,
      dtype=self.dtype,
    )
    self.tower = [self._conv_norm() for _ in range(self.num_head_convs)]
    self.category = self._predictor(self.num_classes, bias=-2.0)
    # Free tags start at different values: equal ones would get equal gradients.
    is_spatial = self.embedding == "spatial"
    self.tag = self._predictor(
      self.tag_channels, scale=0.01 if is_spatial else 0.1
    )
    self.scores = self._predictor(2 + is_spatial)

  def __call__(
    self,
    image: jax.Array,
    image_size: jax.Array,
    *,
    train: bool,
    row: jax.Array | None = None,
  ) -> Outputs:
    """Runs the network.

    Args:
      image: Padded RGB pixels; H and W are multiples of 32. [B, H, W, 3] uint8.
      image_size: Valid (height, width). [B, 2] int32.
      train: Whether batch norm uses and updates batch statistics.
      row: Row of each image in the global batch, for a backbone that draws.
        [B] int32.

    Returns:
      The raw outputs.
    """
    x = normalize_image(
      image,
      image_size,
      mean=self.mean,
      std=self.std,
      channel_order=self.channel_order,
      dtype=self.dtype,
    )
    pyramid = self.fpn(self.backbone(x, train=train, row=row))
    return self.head(pyramid[:4])

  def head(self, pyramid: tuple[jax.Array, ...]) -> Outputs:
    """Runs merge, tower and predictions on (P2, ..., P5)."""
    size = pyramid[0].shape[1:3]
    x = sum(
      resize_bilinear(conv(level), size)
      for conv, level in zip(self.lateral, pyramid, strict=True)
    )
    x = self.hourglasses(x)
    # A convolution cannot distinguish equal objects; coordinates can.
    x = append_coordinates(x)
    for conv in self.tower:
      x = conv(x)

    tag = self._predict(self.tag, x)
    scores = self._predict(self.scores, x)
    radius_bias = -2 * np.log(self.tag_radius)
    if self.embedding == "spatial":
      tag += self._places(tag.shape[1:3])
      log_precision = scores[..., 2] + radius_bias
    else:
      log_precision = jnp.full_like(scores[..., 0], radius_bias)
    return Outputs(
      category_logits=self._predict(self.category, x),
      embedding=tag,
      log_precision=log_precision,
      seed_logits=scores[..., 0],
      quality_logits=scores[..., 1],
    )

  def _places(self, size: tuple[int, int]) -> jax.Array:
    """Returns the centres (x, y) of a map's pixels. [h, w, 2] float32."""
    y, x = (
      (np.arange(n, dtype=np.float32) + 0.5)
      * (self.mask_stride / self.coordinate_unit)
      for n in size
    )
    return jnp.asarray(np.stack(np.meshgrid(x, y), axis=-1))

  def _conv_norm(self) -> ConvGN:
    return ConvGN(
      self.head_channels, num_groups=self.num_groups, dtype=self.dtype
    )

  def _predictor(
    self, features: int, bias: float = 0.0, scale: float = 0.01
  ) -> nn.Module:
    return Conv(
      features * (4 // self.mask_stride) ** 2,
      (1, 1),
      dtype=self.dtype,
      kernel_init=nn.initializers.normal(scale),
      bias_init=nn.initializers.constant(bias),
    )

  def _predict(self, conv: nn.Conv, x: jax.Array) -> jax.Array:
    """Returns predictions at mask resolution. [B, h, w, features] float32."""
    return depth_to_space(conv(x).astype(jnp.float32), 4 // self.mask_stride)
