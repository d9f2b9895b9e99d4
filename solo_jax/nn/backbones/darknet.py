"""The DarkNet-53 backbone (https://arxiv.org/abs/1804.02767), PyTorch padding.

Shape letters: B images, H, W padded network input, C channels.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.nn.conv import Conv
from solo_jax.nn.layers import make_norm

SLOPE = 0.1  # of the activation below 0

_kernel_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def is_frozen(name: str, frozen_stages: int) -> bool:
  """Returns whether a parameter belongs to a frozen stage.

  Args:
    name: Top-level name in the backbone's parameter tree: 'stem' or
      'stage<stage>_<block>'.
    frozen_stages: The backbone's attribute of that name.

  Returns:
    True for the stem (when any stage is frozen) and the frozen stages.
  """
  if name.startswith("stage"):
    return int(name[len("stage") :].split("_")[0]) <= frozen_stages
  return frozen_stages > 0


class ConvNorm(nn.Module):
  """A convolution without bias, a norm and a leaky ReLU.

  Attributes:
    features: Output channels.
    kernel_size: Side of the kernel.
    stride: Spatial stride.
    make_norm: Makes a normalisation layer from a name.
    dtype: Type of the convolution and of the result.
  """

  features: int
  kernel_size: int
  stride: int
  make_norm: functools.partial
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns [B, H / stride, W / stride, features] of a map [B, H, W, C]."""
    x = Conv(
      self.features,
      (self.kernel_size, self.kernel_size),
      strides=self.stride,
      padding=self.kernel_size // 2,
      use_bias=False,
      kernel_init=_kernel_init,
      dtype=self.dtype,
      name="conv",
    )(x)
    return nn.leaky_relu(self.make_norm(name="bn")(x), SLOPE)


class Block(nn.Module):
  """Two convolutions, 1x1 and 3x3, added to their input.

  Attributes:
    make_norm: See `ConvNorm`.
    dtype: See `ConvNorm`.
  """

  make_norm: functools.partial
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns a map of the input's shape [B, H, W, C]; C is even."""
    channels, rest = x.shape[-1], (self.make_norm, self.dtype)
    y = ConvNorm(channels // 2, 1, 1, *rest, name="conv1")(x)
    return x + ConvNorm(channels, 3, 1, *rest, name="conv2")(y)


class DarkNet(nn.Module):
  """DarkNet without its classifier; 53 with the neutral values.

  Attributes:
    stage_sizes: Residual blocks after the strided convolution of each of the
      five stages, at strides 2 to 32.
    width: Channels of the stem; each stage has twice those of the previous one.
    norm: See `layers.make_norm`.
    frozen_stages: With n > 0, the stem and the first n stages get no gradient
      and use running statistics.
    remat: Stages whose blocks keep only their input for the backward pass and
      are computed twice.
    dtype: Type of convolutions and results; parameters stay float32.
    axis_name: Mapped axis over which 'sync' norm gathers statistics.
  """

  stage_sizes: Sequence[int] = (1, 2, 8, 8, 4)
  width: int = 32
  norm: str = "sync"
  frozen_stages: int = 0
  remat: Sequence[int] = ()
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  @nn.compact
  def __call__(
    self, x: jax.Array, *, train: bool, row: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns the feature maps.

    Args:
      x: Normalised image. [B, H, W, 3] float.
      train: Whether batch statistics are used and running ones updated.
      row: Not used: nothing is drawn here.

    Returns:
      C2 to C5 at strides 4, 8, 16, 32, [B, H / stride, W / stride, C].
    """
    del row

    def norm(stage):
      is_fixed = stage <= self.frozen_stages > 0
      return make_norm(
        "frozen" if is_fixed else self.norm,
        train=train,
        dtype=self.dtype,
        axis_name=self.axis_name,
      )

    stem = ConvNorm(self.width, 3, 1, norm(0), self.dtype, name="stem")
    x = stem(x.astype(self.dtype))
    features = []
    for stage, number in enumerate(self.stage_sizes, start=1):
      rest = norm(stage), self.dtype
      channels = self.width * 2**stage
      x = ConvNorm(channels, 3, 2, *rest, name=f"stage{stage}_0")(x)
      make_block = nn.remat(Block) if stage in self.remat else Block
      for i in range(1, number + 1):
        x = make_block(*rest, name=f"stage{stage}_{i}")(x)
      if stage <= self.frozen_stages:
        x = jax.lax.stop_gradient(x)
      features.append(x)
    return tuple(features[1:])
