"""Feature Pyramid Network (https://arxiv.org/abs/1612.03144).

Shape letters: B images, H, W padded network input, C channels.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.nn.conv import Conv
from solo_jax.nn.layers import make_norm
from solo_jax.nn.resize import upsample_nearest_2x


class FPN(nn.Module):
  """Feature pyramid P2 to P6 from the backbone's C2 to C5.

  Lateral 1x1 convolutions, top-down nearest upsampling, 3x3 output
  convolutions, all with bias or with normalisation, without activation. P6 is
  every other pixel of P5, as in all SOLO code bases.

  Attributes:
    channels: Channels of every pyramid level.
    norm: None, or see `layers.make_norm`.
    axis_name: Mapped axis over which 'sync' norm gathers statistics.
    kernel_init: Initialiser of all kernels.
    dtype: Type of the convolutions and of the result.
  """

  channels: int
  norm: str | None = None
  axis_name: str | None = None
  kernel_init: nn.initializers.Initializer = nn.initializers.xavier_uniform()
  dtype: jnp.dtype = jnp.float32

  def _conv(
    self, x: jax.Array, kernel_size: int, name: str, train: bool
  ) -> jax.Array:
    x = Conv(
      self.channels,
      (kernel_size, kernel_size),
      padding=kernel_size // 2,
      use_bias=self.norm is None,
      kernel_init=self.kernel_init,
      dtype=self.dtype,
      name=name,
    )(x)
    if self.norm is None:
      return x
    norm = make_norm(
      self.norm, train=train, dtype=self.dtype, axis_name=self.axis_name
    )
    return norm(name=f"{name}_norm")(x)

  @nn.compact
  def __call__(
    self, features: Sequence[jax.Array], *, train: bool = False
  ) -> tuple[jax.Array, ...]:
    """Returns the pyramid.

    Args:
      features: C2 to C5, each [B, H / stride, W / stride, C] at strides 4, 8,
        16, 32 (rounded up).
      train: Whether batch norm uses batch statistics and updates running ones.

    Returns:
      P2 to P6 at strides 4 to 64, [B, H / stride, W / stride, channels].
    """
    merged = [
      self._conv(feature, 1, f"lateral_{level}", train)
      for level, feature in enumerate(features, start=2)
    ]
    for i in reversed(range(len(merged) - 1)):
      merged[i] += upsample_nearest_2x(merged[i + 1], merged[i].shape[1:3])
    pyramid = [
      self._conv(feature, 3, f"output_{level}", train)
      for level, feature in enumerate(merged, start=2)
    ]
    return (*pyramid, pyramid[-1][:, ::2, ::2])
