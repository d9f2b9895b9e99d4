"""The SOLOv2 network: backbone, pyramid, two towers and the mask branch.

Follows https://arxiv.org/abs/2003.10152, figure 2. Shape letters: B images,
H, W padded input, h, w mask resolution, K classes, S cells per side, E
mask-feature channels (= kernel parameters), C channels.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.nn.fpn import FPN
from solo_jax.nn.layers import ConvGN, coordinates, normalize_image
from solo_jax.nn.resize import resize_bilinear

CATEGORY_PRIOR = 0.01  # initial foreground probability of every cell


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
  """Raw outputs of the network.

  Attributes:
    category_logits: One [B, S, S, K] float32 per level.
    kernel: One [B, S, S, E] float32 per level.
    mask_feature: [B, h, w, E] float, >= 0.
  """

  category_logits: tuple[jax.Array, ...]
  kernel: tuple[jax.Array, ...]
  mask_feature: jax.Array


class SOLOv2(nn.Module):
  """SOLOv2 on a given backbone.

  Attributes:
    backbone: Module returning (c2, c3, c4, c5), strides 4, 8, 16, 32.
    num_classes: K.
    levels: Pyramid level (2..6) that each grid reads.
    strides: Stride of the map that each level is resized to before its grid;
      published: P2 is halved to 8 and P6 is enlarged to 32.
    num_grids: S of each level.
    fpn_channels: Channels of the pyramid.
    head_channels: Channels of the category and kernel towers.
    num_head_convs: Convolutions in each tower.
    mask_channels: Channels of the mask-feature branch before its last layer.
    kernel_channels: E.
    mask_stride: 4 (published) or 2, by depth-to-space of the last layer.
    num_groups: Groups of every group norm.
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
  mask_channels: int
  kernel_channels: int
  mask_stride: int
  num_groups: int
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  channel_order: str
  dtype: jnp.dtype

  def setup(self):  # noqa: D102
    self.fpn = FPN(self.fpn_channels, dtype=self.dtype)

    def tower():
      return [
        ConvGN(self.head_channels, num_groups=self.num_groups, dtype=self.dtype)
        for _ in range(self.num_head_convs)
      ]

    self.category_convs = tower()
    self.kernel_convs = tower()
    prior_bias = -jnp.log((1 - CATEGORY_PRIOR) / CATEGORY_PRIOR)
    normal = nn.initializers.normal(0.01)
    self.category = nn.Conv(
      self.num_classes,
      (3, 3),
      dtype=self.dtype,
      kernel_init=normal,
      bias_init=nn.initializers.constant(prior_bias),
    )
    self.kernel = nn.Conv(
      self.kernel_channels, (3, 3), dtype=self.dtype, kernel_init=normal
    )
    self.mask_feature = MaskFeature(
      self.mask_channels,
      self.kernel_channels,
      mask_stride=self.mask_stride,
      num_groups=self.num_groups,
      dtype=self.dtype,
    )

  def __call__(
    self, image: jax.Array, image_size: jax.Array, *, train: bool
  ) -> Outputs:
    """Runs the network.

    Args:
      image: Padded RGB pixels; H and W are multiples of 32. [B, H, W, 3] uint8.
      image_size: Valid (height, width). [B, 2] int32.
      train: Whether batch norm uses and updates batch statistics.

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
    pyramid = self.fpn(self.backbone(x, train=train))
    return self.head(pyramid, image.shape[1:3])

  def head(
    self, pyramid: tuple[jax.Array, ...], padded_size: tuple[int, int]
  ) -> Outputs:
    """Runs towers and mask branch on (P2, ..., P6) of a [H, W] input."""
    category_logits, kernel = [], []
    for level, stride, num_grid in zip(
      self.levels, self.strides, self.num_grids, strict=True
    ):
      x = pyramid[level - 2]
      height, width = (size // stride for size in padded_size)
      x = resize_bilinear(x, (height, width))
      category, cell_kernel = self._towers(x, num_grid)
      category_logits.append(category.astype(jnp.float32))
      kernel.append(cell_kernel.astype(jnp.float32))
    return Outputs(
      category_logits=tuple(category_logits),
      kernel=tuple(kernel),
      mask_feature=self.mask_feature(pyramid[:4]),
    )

  def _towers(self, x: jax.Array, num_grid: int) -> tuple[jax.Array, jax.Array]:
    # Coordinates join before the resize; the category tower does not see them.
    x = append_coordinates(x)
    x = resize_bilinear(x, (num_grid, num_grid))  # [B, S, S, C + 2]
    category, kernel = x[..., :-2], x
    for category_conv, kernel_conv in zip(
      self.category_convs, self.kernel_convs, strict=True
    ):
      category, kernel = category_conv(category), kernel_conv(kernel)
    return self.category(category), self.kernel(kernel)


class MaskFeature(nn.Module):
  """The unified mask feature: P2 to P5 summed at stride 4.

  Attributes:
    channels: Channels of the summed map.
    kernel_channels: E.
    mask_stride: 4, or 2 by depth-to-space of the last layer.
    num_groups: Groups of every group norm.
    dtype: Compute type.
  """

  channels: int
  kernel_channels: int
  mask_stride: int
  num_groups: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, pyramid: tuple[jax.Array, ...]) -> jax.Array:
    """Maps (P2, P3, P4, P5) to [B, h, w, E]."""

    def conv(features, kernel_size, name):
      return ConvGN(
        features,
        kernel_size=kernel_size,
        num_groups=self.num_groups,
        dtype=self.dtype,
        name=name,
      )

    total = conv(self.channels, 3, "level0_conv0")(pyramid[0])
    for level, x in enumerate(pyramid[1:], start=1):
      if level == 3:
        x = append_coordinates(x)
      for i in range(level):
        x = conv(self.channels, 3, f"level{level}_conv{i}")(x)
        x = resize_bilinear(x, (2 * x.shape[1], 2 * x.shape[2]))
      total += x
    upscale = 4 // self.mask_stride
    x = conv(self.kernel_channels * upscale**2, 1, "predict")(total)
    return depth_to_space(x, upscale)


def append_coordinates(x: jax.Array) -> jax.Array:
  """Appends (x, y) in [-1, 1] as two channels to [B, H, W, C]."""
  grid = coordinates(x.shape[1], x.shape[2]).astype(x.dtype)
  grid = jnp.broadcast_to(grid[None], (x.shape[0], *grid.shape))
  return jnp.concatenate([x, grid], axis=-1)


def depth_to_space(x: jax.Array, block: int) -> jax.Array:
  """Rearranges [B, h, w, block^2 E] to [B, block h, block w, E]."""
  if block == 1:
    return x
  b, h, w, c = x.shape
  x = x.reshape(b, h, w, block, block, c // block**2)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h * block, w * block, c // block**2)
