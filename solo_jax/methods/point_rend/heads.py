"""Heads of PointRend (https://arxiv.org/abs/1912.08193).

Shape letters: R boxes, P points per box, K classes, C channels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.nn.conv import Conv

COARSE_SIZE = 7  # cells per side of a coarse mask


class CoarseHead(nn.Module):
  """Coarse masks of all classes.

  Attributes:
    num_classes: K.
    conv_channels: Channels of the 2x2 convolution.
    dense_channels: Channels of the dense layers.
    num_dense: Dense layers with ReLU.
    dtype: Compute type.
  """

  num_classes: int
  conv_channels: int
  dense_channels: int
  num_dense: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns masks.

    Args:
      x: Features at the cells of boxes. [R, 14, 14, C] float.

    Returns:
      Logits. [R, 7, 7, K] float32.
    """
    x = Conv(
      self.conv_channels,
      (2, 2),
      strides=2,
      padding=0,
      dtype=self.dtype,
      name="reduce",
    )(x)
    x = nn.relu(x).reshape(len(x), -1)
    for i in range(self.num_dense):
      x = nn.relu(
        nn.Dense(self.dense_channels, dtype=self.dtype, name=f"dense_{i}")(x)
      )
    x = nn.Dense(
      COARSE_SIZE**2 * self.num_classes,
      kernel_init=nn.initializers.normal(0.001),
      dtype=self.dtype,
      name="logits",
    )(x)
    shape = (len(x), COARSE_SIZE, COARSE_SIZE, self.num_classes)
    return x.reshape(shape).astype(jnp.float32)


class PointHead(nn.Module):
  """Masks at points, from fine features and the coarse mask there.

  Independent of boxes, so any mask head can use it.

  Attributes:
    num_classes: K.
    channels: Channels of the dense layers.
    num_dense: Dense layers with ReLU; each also reads the coarse mask.
    dtype: Compute type.
  """

  num_classes: int
  channels: int
  num_dense: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, fine: jax.Array, coarse: jax.Array) -> jax.Array:
    """Returns masks at points.

    Args:
      fine: Features. [..., P, C] float.
      coarse: Logits of the coarse mask. [..., P, K] float.

    Returns:
      Logits. [..., P, K] float32.
    """
    coarse = coarse.astype(self.dtype)
    x = jnp.concatenate([fine.astype(self.dtype), coarse], axis=-1)
    for i in range(self.num_dense):
      x = nn.Dense(
        self.channels,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        dtype=self.dtype,
        name=f"dense_{i}",
      )(x)
      x = jnp.concatenate([nn.relu(x), coarse], axis=-1)
    logits = nn.Dense(
      self.num_classes,
      kernel_init=nn.initializers.normal(0.001),
      dtype=self.dtype,
      name="logits",
    )(x)
    return logits.astype(jnp.float32)
