"""The mask head and the semantic branch.

Shape letters: B images, R boxes, K classes, C channels.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.methods.regions.heads import ConvBlock
from solo_jax.methods.regions.initial_values import MASK_LOGITS
from solo_jax.nn.conv import Conv

FUSED_LEVEL = 1  # P3: the size that the semantic branch works at

_msra = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# The code bases count all four taps, and inputs instead of outputs: 2 / (4 C).
_taps = nn.initializers.variance_scaling(
  0.5, "fan_in", "normal", in_axis=0, out_axis=3, batch_axis=(1, 2)
)


class Upsample(nn.Module):
  """2x2 transposed convolution of stride 2: one tap per pixel.

  Attributes:
    channels: Output channels.
    dtype: Compute type.
    kernel_init: Initialiser of the kernel, [C, 2, 2, channels].
  """

  channels: int
  dtype: jnp.dtype
  kernel_init: nn.initializers.Initializer = nn.initializers.variance_scaling(
    2.0, "fan_out", "normal", in_axis=0, out_axis=3, batch_axis=(1, 2)
  )

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns [n, 2 h, 2 w, channels] of a map [n, h, w, C]."""
    shape = (x.shape[-1], 2, 2, self.channels)
    kernel = self.param("kernel", self.kernel_init, shape)
    bias = self.param("bias", nn.initializers.zeros, (self.channels,))
    y = jnp.einsum(
      "nhwc,cabo->nhawbo", x.astype(self.dtype), kernel.astype(self.dtype)
    )
    n, height, _, width, _, _ = y.shape
    y = y.reshape(n, 2 * height, 2 * width, self.channels)
    return y + bias.astype(self.dtype)


class MaskHead(nn.Module):
  """Masks of pooled features (https://arxiv.org/abs/1703.06870, figure 4).

  Attributes:
    num_classes: K.
    num_convs: 3x3 convolutions.
    channels: Their channels.
    norm: Their normalisation, see `ConvBlock`.
    logits_init: How the logits' layer starts, see `initial_values`.
    is_fed: Whether it reads the features of the previous stage's head
      (https://arxiv.org/abs/1901.07518, section 3.2).
    axis_name: Mapped device axis of norm 'sync'.
    dtype: Compute type.
  """

  num_classes: int
  num_convs: int
  channels: int
  norm: str | None
  logits_init: str
  is_fed: bool
  axis_name: str | None
  dtype: jnp.dtype

  @nn.compact
  def __call__(
    self, x: jax.Array, before: jax.Array | None, *, train: bool
  ) -> tuple[jax.Array, jax.Array]:
    """Returns the masks of all classes.

    Args:
      x: Pooled features. [n, s, s, C] float.
      before: Features of the previous head, if `is_fed`.
      train: Whether batch norm uses batch statistics.

    Returns:
      Logits [n, 2 s, 2 s, K] float32, and the features for the next head.
    """
    if self.is_fed:
      before = Conv(
        self.channels, (1, 1), kernel_init=_msra, dtype=self.dtype, name="fed"
      )(before)
      x = x + nn.relu(before)
    for i in range(self.num_convs):
      x = ConvBlock(
        self.channels,
        norm=self.norm,
        axis_name=self.axis_name,
        dtype=self.dtype,
        name=f"conv_{i}",
      )(x, train=train)
    upsample = Upsample(
      self.channels, dtype=self.dtype, kernel_init=_taps, name="upsample"
    )
    y = nn.relu(upsample(x))
    logits = Conv(
      self.num_classes,
      (1, 1),
      kernel_init=MASK_LOGITS[self.logits_init],
      dtype=self.dtype,
      name="logits",
    )(y)
    return logits.astype(jnp.float32), x


class SemanticHead(nn.Module):
  """Classes of pixels from all levels, and features for the boxes.

  https://arxiv.org/abs/1901.07518, section 3.3.

  Attributes:
    num_classes: Number of classes of pixels.
    channels: Channels of all layers.
    num_convs: 3x3 convolutions after the levels are fused.
    dtype: Compute type.
  """

  num_classes: int
  channels: int
  num_convs: int
  dtype: jnp.dtype

  def _conv(self, x, channels, size, name):
    return Conv(
      channels,
      (size, size),
      padding=size // 2,
      kernel_init=_msra,
      dtype=self.dtype,
      name=name,
    )(x)

  @nn.compact
  def __call__(
    self, pyramid: Sequence[jax.Array]
  ) -> tuple[jax.Array, jax.Array]:
    """Returns the semantic branch's features of P2 to P6.

    Args:
      pyramid: [B, h, w, C] float each.

    Returns:
      Logits, [B, h, w, num_classes] float32, and features,
      [B, h, w, channels] float, both of P3's size.
    """
    size = pyramid[FUSED_LEVEL].shape[1:3]
    total = 0
    for i, level in enumerate(pyramid):
      level = resize_corners(level, size).astype(self.dtype)
      total += nn.relu(self._conv(level, self.channels, 1, f"lateral_{i}"))
    for i in range(self.num_convs):
      total = nn.relu(self._conv(total, self.channels, 3, f"conv_{i}"))
    logits = self._conv(total, self.num_classes, 1, "logits")
    features = nn.relu(self._conv(total, self.channels, 1, "embedding"))
    return logits.astype(jnp.float32), features


def resize_corners(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Returns maps resized so that corner pixels' centres stay at the corners.

  As `F.interpolate(mode='bilinear', align_corners=True)`.

  Args:
    x: [B, h, w, C] float.
    size: Target (height, width).

  Returns:
    [B, *size, C] float32, or `x` where that is its size.
  """
  if x.shape[1:3] == tuple(size):
    return x
  rows, columns = map(_corner_matrix, x.shape[1:3], size)
  return jnp.einsum("ih,bhwc,jw->bijc", rows, x.astype(jnp.float32), columns)


def _corner_matrix(source: int, target: int) -> np.ndarray:
  position = np.arange(target) * ((source - 1) / max(target - 1, 1))
  weights = 1 - np.abs(position[:, None] - np.arange(source))
  return np.maximum(weights, 0).astype(np.float32)
