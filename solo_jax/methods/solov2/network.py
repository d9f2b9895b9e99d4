"""The SOLOv2 network: two towers on grids and a mask feature branch.

Follows https://arxiv.org/abs/2003.10152, figure 2. Shape letters: B images,
H, W padded input, h, w mask resolution, K classes, S cells per side, E
mask-feature channels (= kernel parameters), C channels.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.methods.grid.network import GridNetwork
from solo_jax.methods.grid.refinement import Refiner, make_head, repeat
from solo_jax.nn.layers import ConvGN, append_coordinates, depth_to_space
from solo_jax.nn.resize import resize_bilinear


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Outputs:
  """Raw outputs of the network.

  Attributes:
    category_logits: One [B, S, S, K] float32 per level.
    kernel: One [B, S, S, E] float32 per level.
    mask_feature: [B, h, w, E] float, >= 0.
    refiner: Refines masks; None where the network does not.
  """

  category_logits: tuple[jax.Array, ...]
  kernel: tuple[jax.Array, ...]
  mask_feature: jax.Array
  refiner: Refiner | None = None


class SOLOv2(GridNetwork, kw_only=True):
  """SOLOv2 on a given backbone.

  Attributes:
    mask_channels: Channels of the mask-feature branch before its last layer.
    kernel_channels: E.
    mask_stride: 4 (published) or 2, by depth-to-space of the last layer.
    refine: 'points': masks are doubled by PointRend's point head; None: not.
  """

  mask_channels: int
  kernel_channels: int
  mask_stride: int
  refine: str | None = None

  def setup(self):  # noqa: D102
    super().setup()
    self.kernel_convs = self.make_tower()
    self.kernel = self.make_conv(self.kernel_channels, 3)
    self.mask_feature = MaskFeature(
      self.mask_channels,
      self.kernel_channels,
      mask_stride=self.mask_stride,
      num_groups=self.num_groups,
      deformable=self.deformable if self.deformable_convs == "all" else None,
      dtype=self.dtype,
    )
    if self.refine == "points":
      self.point_head = make_head(self.fpn_channels, self.dtype)

  def head(
    self, pyramid: tuple[jax.Array, ...], padded_size: tuple[int, int]
  ) -> Outputs:
    """Runs towers and mask branch on (P2, ..., P6) of a [H, W] input."""
    category_logits, kernel = [], []
    maps = self.level_maps(pyramid, padded_size)
    for x, num_grid in zip(maps, self.num_grids, strict=True):
      # Coordinates enter before the resize; the category tower does not see
      # them.
      x = append_coordinates(x)
      x = resize_bilinear(x, (num_grid, num_grid))  # [B, S, S, C + 2]
      category_logits.append(self.category_logits(x[..., :-2]))
      for conv in self.kernel_convs:
        x = conv(x)
      kernel.append(self.kernel(x).astype(jnp.float32))
    mask_feature = self.mask_feature(pyramid[:4])
    return Outputs(
      category_logits=tuple(category_logits),
      kernel=tuple(kernel),
      mask_feature=mask_feature,
      refiner=self.refiner(pyramid[0], mask_feature) if self.refine else None,
    )

  def refiner(self, *maps: jax.Array) -> Refiner:
    """Returns what masks are refined from, given maps [B, h', w', C]."""
    if self.is_initializing():
      points = [x[:1, 0, 0] for x in maps]
      self.point_head(jnp.concatenate(points, axis=-1), jnp.zeros((1, 1)))
    weights = self.point_head.variables["params"]
    return Refiner(maps=maps, weights=repeat(weights, len(maps[0])))


class MaskFeature(nn.Module):
  """The unified mask feature: P2 to P5 summed at stride 4.

  Attributes:
    channels: Channels of the summed map.
    kernel_channels: E.
    mask_stride: 4, or 2 by depth-to-space of the last layer.
    num_groups: Groups of every group norm.
    deformable: See `ConvGN`.
    dtype: Compute type.
  """

  channels: int
  kernel_channels: int
  mask_stride: int
  num_groups: int
  deformable: str | None
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, pyramid: tuple[jax.Array, ...]) -> jax.Array:
    """Returns the mask feature [B, h, w, E] of (P2, P3, P4, P5)."""

    def conv(features, kernel_size, name):
      return ConvGN(
        features,
        kernel_size=kernel_size,
        num_groups=self.num_groups,
        deformable=self.deformable,
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
