"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-excite, with ReLU6.

The backbone of https://arxiv.org/abs/1905.11946, table 1, in the Lite
form of https://github.com/tensorflow/tpu (models/official/efficientnet/lite).
Trained on (image - 127) / 128 of RGB 0..255: see MEAN and STD.

Shape letters: B images, H, W padded network input, C channels.
"""

import dataclasses
import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.nn.conv import Conv
from solo_jax.nn.depthwise_conv import DepthwiseConv
from solo_jax.nn.layers import make_norm

# Preprocessing of the published weights (RGB 0..255), the same per channel.
MEAN = (127.0, 127.0, 127.0)
STD = (128.0, 128.0, 128.0)


@dataclasses.dataclass(frozen=True)
class Group:
  """Consecutive blocks of one shape: a row of the paper's table 1.

  Attributes:
    num_blocks: Blocks; only the first has the stride.
    kernel_size: Side of the depthwise kernel.
    stride: Stride of the first block.
    expansion: Inner channels as a multiple of the input channels.
    features: Output channels.
    stage: Backbone stage (1..4, ending in C2..C5) that the group is part of.
  """

  num_blocks: int
  kernel_size: int
  stride: int
  expansion: int
  features: int
  stage: int


STEM_FEATURES = 32
GROUPS = (
  Group(1, 3, 1, 1, 16, stage=1),
  Group(2, 3, 2, 6, 24, stage=1),
  Group(2, 5, 2, 6, 40, stage=2),
  Group(3, 3, 2, 6, 80, stage=3),
  Group(3, 5, 1, 6, 112, stage=3),
  Group(4, 5, 2, 6, 192, stage=4),
  Group(1, 3, 1, 6, 320, stage=4),
)

# TensorFlow's constants, under which the weights were trained.
_lite_norm = functools.partial(make_norm, epsilon=1e-3, momentum=0.99)
_kernel_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def is_frozen(name: str, frozen_stages: int) -> bool:
  """Returns whether a parameter belongs to a frozen stage.

  The network stops the gradient there; an optimizer must leave these
  parameters out of weight decay as well.

  Args:
    name: Top-level name in the backbone's parameter tree: 'stem_conv',
      'stem_bn' or 'block_<index>'.
    frozen_stages: The backbone's attribute of that name.

  Returns:
    True for the stem (when any stage is frozen) and the frozen stages.
  """
  if name.startswith("block_"):
    stages = [group.stage for group in GROUPS for _ in range(group.num_blocks)]
    return stages[int(name.removeprefix("block_"))] <= frozen_stages
  return frozen_stages > 0


def _conv(
  features: int,
  kernel_size: int,
  dtype: jnp.dtype,
  name: str,
  stride: int = 1,
) -> nn.Module:
  return Conv(
    features,
    (kernel_size, kernel_size),
    strides=stride,
    # TensorFlow's rule, under which the weights were trained: at stride 2 an
    # even size is padded on the right and bottom only (3x3) or more (5x5).
    padding="SAME",
    use_bias=False,
    kernel_init=_kernel_init,
    dtype=dtype,
    name=name,
  )


class Block(nn.Module):
  """Inverted residual: expand 1x1, depthwise, project 1x1 (linear).

  Attributes:
    features: Output channels.
    kernel_size: Side of the depthwise kernel.
    stride: Spatial stride.
    expansion: Inner channels as a multiple of the input channels; 1 leaves
      the expanding convolution out.
    make_norm: Makes a normalisation layer from a name.
    dtype: Type of the convolutions and of the result.
  """

  features: int
  kernel_size: int
  stride: int
  expansion: int
  make_norm: functools.partial
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns [B, H / stride, W / stride, features] of a map [B, H, W, C]."""
    y, inner = x, self.expansion * x.shape[-1]
    if self.expansion > 1:
      y = _conv(inner, 1, self.dtype, "expand_conv")(y)
      y = nn.relu6(self.make_norm(name="expand_bn")(y))
    y = DepthwiseConv(
      self.kernel_size,
      self.stride,
      _kernel_init,
      dtype=self.dtype,
      name="depthwise_conv",
    )(y)
    y = nn.relu6(self.make_norm(name="depthwise_bn")(y))
    y = _conv(self.features, 1, self.dtype, "project_conv")(y)
    y = self.make_norm(name="project_bn")(y)
    return x + y if x.shape == y.shape else y


class EfficientNetLite0(nn.Module):
  """EfficientNet-Lite0 without its head.

  Differs from the reference: no stochastic depth.

  Attributes:
    norm: See `layers.make_norm`.
    frozen_stages: With n > 0, the stem and the first n stages (stages end in
      C2 to C5) get no gradient and use running statistics.
    remat: Stages (1 to 4) whose blocks keep only their input for the backward
      pass and are computed twice.
    dtype: Type of convolutions and results; parameters stay float32.
    axis_name: Mapped axis over which 'sync' norm gathers statistics.
  """

  norm: str = "frozen"
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
      x: Image normalised by MEAN and STD. [B, H, W, 3] float.
      train: Whether batch statistics are used and running ones updated.
      row: Not used: nothing is drawn here.

    Returns:
      C2 to C5 at strides 4, 8, 16, 32 with 24, 40, 112 and 320 channels,
      [B, H / stride, W / stride, C].

    Raises:
      ValueError: If an attribute is out of its range.
    """
    del row
    if not 0 <= self.frozen_stages <= 4:
      raise ValueError(
        f"frozen_stages must be 0 to 4, got {self.frozen_stages}."
      )
    if not set(self.remat) <= {1, 2, 3, 4}:
      raise ValueError(
        f"remat must list stages from 1 to 4, got {tuple(self.remat)}."
      )
    norms = [
      _lite_norm(
        "frozen" if stage <= self.frozen_stages > 0 else self.norm,
        train=train,
        dtype=self.dtype,
        axis_name=self.axis_name,
      )
      for stage in range(5)
    ]
    x = _conv(STEM_FEATURES, 3, self.dtype, "stem_conv", stride=2)(
      x.astype(self.dtype)
    )
    x = nn.relu6(norms[0](name="stem_bn")(x))
    features, index = {}, 0
    for group in GROUPS:
      make_block = nn.remat(Block) if group.stage in self.remat else Block
      for i in range(group.num_blocks):
        x = make_block(
          features=group.features,
          kernel_size=group.kernel_size,
          stride=group.stride if i == 0 else 1,
          expansion=group.expansion,
          make_norm=norms[group.stage],
          dtype=self.dtype,
          name=f"block_{index}",
        )(x)
        index += 1
      if group.stage <= self.frozen_stages:
        x = jax.lax.stop_gradient(x)
      features[group.stage] = x  # the last group of a stage stays
    return tuple(features.values())
