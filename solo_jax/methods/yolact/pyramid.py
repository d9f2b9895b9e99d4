"""The feature pyramid of YOLACT: P3 to P7 by bilinear upsampling.

Shape letters: B images, H, W padded network input, C channels.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.nn.conv import Conv
from solo_jax.nn.resize import resize_bilinear

SOURCES = ("p5", "c5")


class Pyramid(nn.Module):
  """P3 to P7 from the backbone's C3 to C5.

  Attributes:
    channels: Channels of every level.
    is_rectified: Whether P3 to P5 end in a ReLU (the authors' code) or are
      linear (mmdetection).
    source: Input of P6: 'p5' (the authors' code) or 'c5'
      (mmdetection).
    dtype: Type of the convolutions and of the result.
  """

  channels: int
  is_rectified: bool
  source: str
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, features: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    """Returns the pyramid.

    Args:
      features: C3 to C5 at strides 8, 16 and 32. [B, h, w, C] each.

    Returns:
      P3 to P7 at strides 8 to 128. [B, h, w, channels] each.

    Raises:
      ValueError: If `source` is unknown.
    """
    if self.source not in SOURCES:
      raise ValueError(f"source must be in {SOURCES}, got {self.source!r}.")
    merged = [
      self._conv(x, 1, f"lateral_{level}")
      for level, x in enumerate(features, start=3)
    ]
    for i in reversed(range(len(merged) - 1)):
      merged[i] += resize_bilinear(merged[i + 1], merged[i].shape[1:3])
    pyramid = [
      self._conv(x, 3, f"output_{level}")
      for level, x in enumerate(merged, start=3)
    ]
    if self.is_rectified:
      pyramid = [jax.nn.relu(x) for x in pyramid]
    top = pyramid[-1] if self.source == "p5" else features[-1]
    pyramid.append(self._conv(top, 3, "output_6", stride=2))
    pyramid.append(self._conv(pyramid[-1], 3, "output_7", stride=2))
    return tuple(pyramid)

  def _conv(self, x, kernel_size, name, stride=1):
    return Conv(
      self.channels,
      (kernel_size, kernel_size),
      strides=stride,
      padding=kernel_size // 2,
      kernel_init=nn.initializers.xavier_uniform(),
      dtype=self.dtype,
      name=name,
    )(x)
