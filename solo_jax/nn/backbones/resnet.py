"""ResNet backbones (https://arxiv.org/abs/1512.03385), PyTorch padding.

Also ResNeXt (https://arxiv.org/abs/1611.05431), and either with deformable
convolutions.

Shape letters: B images, H, W padded network input, C channels.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.nn.conv import Conv
from solo_jax.nn.deform_conv import DeformConv
from solo_jax.nn.grouped_conv import GroupedConv
from solo_jax.nn.layers import make_norm

# Table 1 of the paper.
DEPTHS = {
  18: dict(block="basic", stage_sizes=(2, 2, 2, 2)),
  34: dict(block="basic", stage_sizes=(3, 4, 6, 3)),
  50: dict(block="bottleneck", stage_sizes=(3, 4, 6, 3)),
  101: dict(block="bottleneck", stage_sizes=(3, 4, 23, 3)),
  152: dict(block="bottleneck", stage_sizes=(3, 8, 36, 3)),
}
DEFORMABLE_STAGES = (2, 3, 4)  # those that end in C3 to C5, as published

_kernel_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def is_frozen(name: str, frozen_stages: int) -> bool:
  """Returns whether a parameter belongs to a frozen stage.

  The network stops the gradient there; an optimizer must leave these
  parameters out of weight decay as well.

  Args:
    name: Top-level name in the backbone's parameter tree: 'conv1', 'bn1' or
      'layer<stage>_<block>'.
    frozen_stages: The backbone's attribute of that name.

  Returns:
    True for the stem (when any stage is frozen) and the frozen stages.
  """
  if name.startswith("layer"):
    return int(name[len("layer") :].split("_")[0]) <= frozen_stages
  return frozen_stages > 0


def _conv(features, kernel_size, stride, dtype, name) -> nn.Module:
  return Conv(
    features,
    (kernel_size, kernel_size),
    strides=stride,
    padding=kernel_size // 2,  # explicit: 'SAME' would shift strided layers
    use_bias=False,
    kernel_init=_kernel_init,
    dtype=dtype,
    name=name,
  )


class Block(nn.Module):
  """Residual block, basic (two 3x3) or bottleneck (1x1, 3x3, 1x1).

  Attributes:
    kind: 'basic' or 'bottleneck'.
    width: Inner channels; a bottleneck puts out 4 * width.
    stride: Spatial stride of the block.
    stride_in_1x1: Puts a bottleneck's stride in its first 1x1 convolution
      (the original caffe models) instead of its 3x3 (torchvision).
    deformable: See `ResNet`.
    groups: See `ResNet`.
    group_width: See `ResNet`.
    make_norm: Makes a normalisation layer from a name.
    dtype: Type of the convolutions and of the result.
  """

  kind: str
  width: int
  stride: int
  stride_in_1x1: bool
  deformable: str | None
  groups: int
  group_width: int
  make_norm: functools.partial
  dtype: jnp.dtype

  def _conv3x3(self, features: int, stride: int, name: str) -> nn.Module:
    if self.deformable is not None:
      return DeformConv(
        features,
        stride=stride,
        modulated=self.deformable == "v2",
        groups=self.groups,
        kernel_init=_kernel_init,
        dtype=self.dtype,
        name=name,
      )
    if self.groups > 1:
      return GroupedConv(
        features, 3, stride, self.groups, _kernel_init, self.dtype, name=name
      )
    return _conv(features, 3, stride, self.dtype, name)

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns [B, H / stride, W / stride, C'] of a map [B, H, W, C]."""
    if self.kind == "basic":
      layers = [(3, self.width, self.stride), (3, self.width, 1)]
    else:
      first, second = (
        (self.stride, 1) if self.stride_in_1x1 else (1, self.stride)
      )
      inner = int(self.width * self.group_width / 64) * self.groups
      layers = [
        (1, inner, first),
        (3, inner, second),
        (1, 4 * self.width, 1),
      ]
    y = x
    for j, (kernel_size, features, stride) in enumerate(layers, start=1):
      if kernel_size == 3:
        y = self._conv3x3(features, stride, f"conv{j}")(y)
      else:
        y = _conv(features, kernel_size, stride, self.dtype, f"conv{j}")(y)
      y = self.make_norm(name=f"bn{j}")(y)
      if j < len(layers):
        y = nn.relu(y)
    if self.stride != 1 or x.shape[-1] != y.shape[-1]:
      x = _conv(y.shape[-1], 1, self.stride, self.dtype, "downsample_conv")(x)
      x = self.make_norm(name="downsample_bn")(x)
    return nn.relu(x + y)


class ResNet(nn.Module):
  """ResNet without its classifier.

  Attributes:
    stage_sizes: Blocks in each of the four stages.
    widths: Inner channels of each stage; (64, 128, 256, 512) as published.
    block: 'basic' or 'bottleneck'.
    stem: 'conv7' (7x7 stride 2, 3x3 max pool stride 2) or 'space_to_depth'
      (4x4 pixels to channels, then one 3x3 convolution).
    stride_in_1x1: See `Block`; bottleneck only.
    deformable: None, or 'v1' or 'v2' deformable convolutions for the 3x3 of
      some blocks in the stages that end in C3 to C5; bottleneck only.
    deformable_every: Which blocks: the first of a stage and then every n-th.
    groups: Groups of the 3x3 convolutions (ResNeXt: 64 or 32); bottleneck
      only.
    group_width: Inner channels of each group in the first stage, for a width
      of 64 (ResNeXt: 4; 64 for one group).
    norm: See `layers.make_norm`.
    norm_epsilon: Added to variances; 0 in torchvision's Mask R-CNN v1.
    frozen_stages: With n > 0, the stem and the first n stages get no gradient
      and use running statistics.
    remat: Stages (1 to 4) whose blocks keep only their input for the backward
      pass and are computed twice.
    dtype: Type of convolutions and results; parameters stay float32.
    axis_name: Mapped axis over which 'sync' norm gathers statistics.
  """

  stage_sizes: Sequence[int]
  widths: Sequence[int] = (64, 128, 256, 512)
  block: str = "bottleneck"
  stem: str = "conv7"
  stride_in_1x1: bool = False
  deformable: str | None = None
  deformable_every: int = 1
  groups: int = 1
  group_width: int = 64
  norm: str = "frozen"
  norm_epsilon: float = 1e-5
  frozen_stages: int = 0
  remat: Sequence[int] = ()
  dtype: jnp.dtype = jnp.float32
  axis_name: str | None = None

  def _check(self) -> None:
    if self.block not in ("basic", "bottleneck"):
      raise ValueError(
        f"block must be 'basic' or 'bottleneck', got {self.block!r}."
      )
    if self.stem not in ("conv7", "space_to_depth"):
      raise ValueError(
        f"stem must be 'conv7' or 'space_to_depth', got {self.stem!r}."
      )
    if self.stride_in_1x1 and self.block == "basic":
      raise ValueError('stride_in_1x1 needs 1x1 layers: block is "basic".')
    if self.deformable not in (None, "v1", "v2"):
      raise ValueError(
        f"deformable must be None, 'v1' or 'v2', got {self.deformable!r}."
      )
    is_plain = (self.deformable, self.groups, self.group_width) == (None, 1, 64)
    if self.block == "basic" and not is_plain:
      raise ValueError(
        "deformable, groups and group_width must be None, 1 and 64 for block "
        f"'basic', got {self.deformable!r}, {self.groups} and "
        f"{self.group_width}; use block 'bottleneck'."
      )
    if not len(self.stage_sizes) == len(self.widths) == 4:
      raise ValueError(
        "stage_sizes and widths must have 4 entries each, got "
        f"{tuple(self.stage_sizes)} and {tuple(self.widths)}."
      )
    if not 0 <= self.frozen_stages <= 4:
      raise ValueError(
        f"frozen_stages must be 0 to 4, got {self.frozen_stages}."
      )
    if not set(self.remat) <= {1, 2, 3, 4}:
      raise ValueError(
        f"remat must list stages from 1 to 4, got {tuple(self.remat)}."
      )

  def _stem(self, x: jax.Array, norm: functools.partial) -> jax.Array:
    """Returns [B, H / 4, W / 4, widths[0]] of an image [B, H, W, 3]."""
    if self.stem == "conv7":
      x = _conv(self.widths[0], 7, 2, self.dtype, "conv1")(x)
      x = nn.relu(norm(name="bn1")(x))
      return nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // 4, 4, width // 4, 4, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, height // 4, width // 4, 16 * channels)
    x = _conv(self.widths[0], 3, 1, self.dtype, "conv1")(x)
    return nn.relu(norm(name="bn1")(x))

  @nn.compact
  def __call__(
    self, x: jax.Array, *, train: bool, row: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns the feature maps.

    Args:
      x: Normalised image. [B, H, W, 3] float, H and W multiples of 4 for the
        'space_to_depth' stem.
      train: Whether batch statistics are used and running ones updated.
      row: Not used: nothing is drawn here.

    Returns:
      C2 to C5 at strides 4, 8, 16, 32, [B, H / stride, W / stride, C].

    Raises:
      ValueError: If an attribute is out of its range.
    """
    del row
    self._check()
    norms = [
      make_norm(
        "frozen"
        if stage <= self.frozen_stages > 0 and self.norm != "group"
        else self.norm,
        train=train,
        dtype=self.dtype,
        axis_name=self.axis_name,
        epsilon=self.norm_epsilon,
      )
      for stage in range(5)
    ]
    x = self._stem(x.astype(self.dtype), norms[0])
    features = []
    for stage in range(1, 5):
      make_block = nn.remat(Block) if stage in self.remat else Block
      for i in range(self.stage_sizes[stage - 1]):
        deforms = stage in DEFORMABLE_STAGES and i % self.deformable_every == 0
        x = make_block(
          kind=self.block,
          width=self.widths[stage - 1],
          stride=2 if stage > 1 and i == 0 else 1,
          stride_in_1x1=self.stride_in_1x1,
          deformable=self.deformable if deforms else None,
          groups=self.groups,
          group_width=self.group_width,
          make_norm=norms[stage],
          dtype=self.dtype,
          name=f"layer{stage}_{i}",
        )(x)
      if stage <= self.frozen_stages:
        x = jax.lax.stop_gradient(x)
      features.append(x)
    return tuple(features)
