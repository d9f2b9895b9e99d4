"""Hourglass modules (https://arxiv.org/abs/1603.06937, figures 3 and 4).

Shape letters: B images, H, W size of the map, C channels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.nn.layers import ConvGN
from solo_jax.nn.resize import upsample_nearest_2x


class Hourglass(nn.Module):
  """One hourglass: down by pooling, up again, with skips at every scale.

  Differs from the paper: one 3x3 convolution with group norm instead of each
  residual bottleneck.

  Attributes:
    channels: C of every layer.
    depth: Times that the map is halved; it may have any size.
    num_groups: Groups of every group norm.
    dtype: Compute type.
  """

  channels: int
  depth: int
  num_groups: int
  dtype: jnp.dtype = jnp.float32

  def _conv(self, name: str) -> ConvGN:
    return ConvGN(
      self.channels, num_groups=self.num_groups, dtype=self.dtype, name=name
    )

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns a map of the same shape, [B, H, W, C]."""
    skips = []
    for level in range(self.depth):
      skips.append(self._conv(f"skip_{level}")(x))
      x = nn.max_pool(x, (2, 2), (2, 2), padding="SAME")
      x = self._conv(f"down_{level}")(x)
    x = self._conv("bottom")(x)
    for level in reversed(range(self.depth)):
      x = self._conv(f"up_{level}")(x)
      x = upsample_nearest_2x(x, skips[level].shape[1:3]) + skips[level]
    return x


class StackedHourglass(nn.Module):
  """Hourglasses in series, each with a residual connection around it.

  Differs from the paper: no intermediate supervision.

  Attributes:
    num_stacks: Hourglasses.
    channels: C.
    depth: See `Hourglass`.
    num_groups: Groups of every group norm.
    dtype: Compute type.
  """

  num_stacks: int
  channels: int
  depth: int
  num_groups: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns a map of the same shape, [B, H, W, C]."""
    for i in range(self.num_stacks):
      x += Hourglass(
        self.channels,
        self.depth,
        num_groups=self.num_groups,
        dtype=self.dtype,
        name=f"hourglass_{i}",
      )(x)
    return x
