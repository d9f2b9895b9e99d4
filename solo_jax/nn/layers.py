"""Layers shared by backbones, pyramid and heads.

Shape letters: B images, H, W padded network input, C channels.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.nn.conv import Conv
from solo_jax.nn.deform_conv import DeformConv
from solo_jax.nn.group_norm import GroupNorm

NORMS = ("batch", "sync", "frozen", "constant", "group")
NUM_GROUPS = 32  # of 'group', as in detectron2


def normalize_image(
  image: jax.Array,
  image_size: jax.Array,
  *,
  mean: Sequence[float],
  std: Sequence[float],
  channel_order: str,
  dtype: jnp.dtype = jnp.float32,
) -> jax.Array:
  """Returns the normalised image, with zeros in the padding.

  Padding comes after normalisation in every published SOLO system, so what
  the network sees beyond the image is 0, not (0 - mean) / std.

  Args:
    image: RGB. [B, H, W, 3] uint8.
    image_size: Valid (height, width) of each image. [B, 2] int32.
    mean: Per channel, 0..255, in the order of `channel_order`.
    std: Per channel, in the order of `channel_order`.
    channel_order: 'rgb', or 'bgr' to reverse the channels (caffe weights).
    dtype: Type of the result; arithmetic is float32.

  Returns:
    (image - mean) / std, zero outside `image_size`. [B, H, W, 3] `dtype`.

  Raises:
    ValueError: If `channel_order` is unknown.
  """
  if channel_order not in ("rgb", "bgr"):
    raise ValueError(
      f"channel_order must be 'rgb' or 'bgr', got {channel_order!r}."
    )
  if channel_order == "bgr":
    image = image[..., ::-1]
  mean = np.asarray(mean, np.float32).reshape(1, 1, 1, 3)
  std = np.asarray(std, np.float32).reshape(1, 1, 1, 3)
  normalized = (image.astype(jnp.float32) - mean) / std
  height, width = image.shape[1:3]
  inside_rows = np.arange(height)[None] < image_size[:, :1]  # [B, H]
  inside_columns = np.arange(width)[None] < image_size[:, 1:]  # [B, W]
  inside = inside_rows[:, :, None] & inside_columns[:, None, :]
  return jnp.where(inside[..., None], normalized, 0.0).astype(dtype)


def coordinates(height: int, width: int) -> jax.Array:
  """Returns CoordConv channels (https://arxiv.org/abs/1807.03247).

  Args:
    height: Rows of the feature map.
    width: Columns of the feature map.

  Returns:
    (x, y) of each pixel, from -1 to 1 with both ends included.
    [height, width, 2] float32.
  """
  x = np.linspace(-1, 1, width, dtype=np.float32)
  y = np.linspace(-1, 1, height, dtype=np.float32)
  return jnp.asarray(np.stack(np.meshgrid(x, y), axis=-1))


def append_coordinates(x: jax.Array) -> jax.Array:
  """Returns [B, H, W, C] with `coordinates` as two more channels."""
  grid = coordinates(x.shape[1], x.shape[2]).astype(x.dtype)
  grid = jnp.broadcast_to(grid[None], (x.shape[0], *grid.shape))
  return jnp.concatenate([x, grid], axis=-1)


def depth_to_space(x: jax.Array, block: int) -> jax.Array:
  """Returns [B, block h, block w, C], given [B, h, w, block^2 C]."""
  if block == 1:
    return x
  b, h, w, c = x.shape
  x = x.reshape(b, h, w, block, block, c // block**2)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h * block, w * block, c // block**2)


def make_norm(
  norm: str,
  *,
  train: bool,
  dtype: jnp.dtype,
  axis_name: str | None,
  epsilon: float = 1e-5,
  momentum: float = 0.9,
) -> Callable[..., nn.Module]:
  """Returns a normalisation layer.

  Statistics and affine are float32 whatever `dtype`. Running variances are the
  batch's biased variances; PyTorch scales them by n / (n - 1).

  Args:
    norm: 'batch': statistics of this device's batch in training; 'sync': of
      the batch over all devices of `axis_name`; 'frozen': running statistics
      in training too, only scale and bias are learned. 'constant': these are
      not learned either (detectron2's and torchvision's FrozenBatchNorm).
      'group': group norm, statistics of each image's own groups of channels.
    train: Whether statistics are gathered and running ones updated.
    dtype: Type of the result.
    axis_name: Mapped axis for 'sync'.
    epsilon: Added to the variance.
    momentum: Share of the old value in a running statistic; PyTorch's
      momentum is one minus this.

  Returns:
    `nn.BatchNorm` or `GroupNorm` with everything but its name filled in.

  Raises:
    ValueError: If `norm` is unknown.
  """
  if norm not in NORMS:
    raise ValueError(f"norm must be one of {NORMS}, got {norm!r}.")
  if norm == "group":
    return functools.partial(
      GroupNorm, NUM_GROUPS, epsilon=epsilon, dtype=dtype
    )
  layer = ConstantNorm if norm == "constant" else nn.BatchNorm
  return functools.partial(
    layer,
    use_running_average=norm in ("frozen", "constant") or not train,
    axis_name=axis_name if norm == "sync" else None,
    epsilon=epsilon,
    momentum=momentum,
    dtype=dtype,
  )


class ConstantNorm(nn.BatchNorm):
  """Batch norm whose scale and bias get no gradient, like its statistics."""

  def param(self, name: str, *args: Any, **kwargs: Any) -> jax.Array:
    """Returns a parameter without gradient."""
    return jax.lax.stop_gradient(super().param(name, *args, **kwargs))


class ConvGN(nn.Module):
  """Convolution, group normalisation, ReLU: the block of every SOLO head.

  Attributes:
    features: Output channels, a multiple of `num_groups`.
    kernel_size: Side of the square kernel, odd; the output size is the input
      size.
    num_groups: Groups of the normalisation.
    deformable: None for a plain convolution, or 'v1' or 'v2' for a deformable
      one.
    dtype: Type of the convolution and of the result; statistics are float32.
  """

  features: int
  kernel_size: int = 3
  num_groups: int = 32
  deformable: str | None = None
  dtype: jnp.dtype = jnp.float32

  def _conv(self) -> nn.Module:
    shared = dict(
      kernel_init=nn.initializers.normal(0.01),  # as published for the heads
      dtype=self.dtype,
      name="conv",
    )
    if self.deformable is not None:
      return DeformConv(
        self.features,
        self.kernel_size,
        modulated=self.deformable == "v2",
        **shared,
      )
    return Conv(
      self.features,
      (self.kernel_size, self.kernel_size),
      padding=self.kernel_size // 2,
      use_bias=False,
      **shared,
    )

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns [B, H, W, features] of a map [B, H, W, C]."""
    if self.deformable not in (None, "v1", "v2"):
      raise ValueError(
        f"deformable must be None, 'v1' or 'v2', got {self.deformable!r}."
      )
    x = self._conv()(x)
    x = GroupNorm(self.num_groups, dtype=self.dtype, name="norm")(x)
    return nn.relu(x)
