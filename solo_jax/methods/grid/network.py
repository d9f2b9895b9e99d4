"""The parts that all SOLO networks share: backbone, pyramid, category tower.

Shape letters: B images, H, W padded input, K classes, S cells per side of a
level, C channels.
"""

from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.nn.conv import Conv
from solo_jax.nn.fpn import FPN
from solo_jax.nn.layers import ConvGN, normalize_image
from solo_jax.nn.resize import resize_bilinear

PRIOR = 0.01  # initial foreground probability of published heads


class GridNetwork(nn.Module, kw_only=True):
  """A network that predicts on grids; subclasses add `head` and their layers.

  Attributes:
    backbone: Module returning (c2, c3, c4, c5), strides 4, 8, 16, 32.
    num_classes: K.
    levels: Pyramid level (2..6) that each grid reads.
    strides: Stride of the map that each level is resized to before its grid;
      published: P2 is halved to 8 and P6 is enlarged to 32.
    num_grids: S of each level.
    fpn_channels: Channels of the pyramid.
    head_channels: Channels of the towers.
    num_head_convs: Convolutions in each tower.
    num_groups: Groups of every group norm.
    deformable: None, or 'v1' or 'v2' for deformable convolutions in the head.
    deformable_convs: Which of its normalised convolutions: 'all', or the 'last'
      of each tower only, as in the light variants.
    mean: Channel means, in `channel_order`.
    std: Channel standard deviations, in `channel_order`.
    channel_order: 'rgb' or 'bgr': the order that the backbone expects.
    dtype: Compute type of the convolutions.
  """

  backbone: nn.Module
  num_classes: int
  levels: tuple[int, ...]
  strides: tuple[int, ...]
  num_grids: tuple[int, ...]
  fpn_channels: int
  head_channels: int
  num_head_convs: int
  num_groups: int
  deformable: str | None = None
  deformable_convs: str = "all"
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  channel_order: str
  dtype: jnp.dtype

  def setup(self):  # noqa: D102
    self.fpn = FPN(self.fpn_channels, dtype=self.dtype)
    self.category_convs = self.make_tower()
    self.category = self.make_conv(self.num_classes, 3, prior=PRIOR)

  def __call__(
    self,
    image: jax.Array,
    image_size: jax.Array,
    *,
    train: bool,
    row: jax.Array | None = None,
  ) -> Any:
    """Runs the network.

    Args:
      image: Padded RGB pixels; H and W are multiples of 32. [B, H, W, 3] uint8.
      image_size: Valid (height, width). [B, 2] int32.
      train: Whether batch norm uses and updates batch statistics.
      row: Row of each image in the global batch, for a backbone that draws.
        [B] int32.

    Returns:
      The raw outputs of `head`.
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
    return self.head(pyramid, image.shape[1:3])

  def make_tower(self) -> list[nn.Module]:
    """Returns the convolutions of one tower."""
    if self.deformable_convs not in ("all", "last"):
      raise ValueError(
        "deformable_convs must be 'all' or 'last', got "
        f"{self.deformable_convs!r}."
      )
    last = self.num_head_convs - 1
    return [
      ConvGN(
        self.head_channels,
        num_groups=self.num_groups,
        deformable=self.deformable
        if i == last or self.deformable_convs == "all"
        else None,
        dtype=self.dtype,
      )
      for i in range(self.num_head_convs)
    ]

  def make_conv(
    self, features: int, kernel_size: int, prior: float | None = None
  ) -> nn.Module:
    """Returns a predicting convolution with bias.

    Args:
      features: Output channels.
      kernel_size: Side of the kernel.
      prior: Initial probability of its sigmoid; None: a bias of 0.

    Returns:
      The module.
    """
    return Conv(
      features,
      (kernel_size, kernel_size),
      dtype=self.dtype,
      kernel_init=nn.initializers.normal(0.01),
      bias_init=nn.initializers.zeros if prior is None else prior_bias(prior),
    )

  def level_maps(
    self, pyramid: tuple[jax.Array, ...], padded_size: tuple[int, int]
  ) -> Iterator[jax.Array]:
    """Yields the map of each grid, [B, H / stride, W / stride, C].

    Args:
      pyramid: (P2, ..., P6).
      padded_size: (H, W).
    """
    for level, stride in zip(self.levels, self.strides, strict=True):
      height, width = (size // stride for size in padded_size)
      yield resize_bilinear(pyramid[level - 2], (height, width))

  def category_logits(self, x: jax.Array) -> jax.Array:
    """Returns class logits [B, S, S, K] of a level at grid size."""
    for conv in self.category_convs:
      x = conv(x)
    return self.category(x).astype(jnp.float32)


def prior_bias(prior: float) -> Any:
  """Returns an initializer of biases b with sigmoid(b) = prior."""
  return nn.initializers.constant(-jnp.log((1 - prior) / prior))
