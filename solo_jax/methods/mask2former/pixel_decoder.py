"""The pixel decoder: a pyramid mixed by deformable attention.

Follows https://arxiv.org/abs/2112.01527, section 3.1. Shape letters: B images,
C channels, E mask-feature channels, S pixels of all levels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.nn.attention import Perceptron, layer_norm, sine_positions
from solo_jax.nn.conv import Conv
from solo_jax.nn.deformable_attention import (
  DeformableAttention,
  reference_points,
)
from solo_jax.nn.resize import resize_bilinear

_xavier = nn.initializers.xavier_uniform()
NUM_GROUPS = 32  # of every group norm, as published


class Layer(nn.Module):
  """Deformable attention and a perceptron, each followed by a norm.

  Attributes:
    num_heads: Heads of the attention.
    hidden: Hidden channels of the perceptron.
    dtype: Compute type.
  """

  num_heads: int
  hidden: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(
    self, x: jax.Array, positions: jax.Array, sizes: tuple
  ) -> jax.Array:
    """Returns attended [B, S, C]; only queries use `positions` [S, C]."""
    y = DeformableAttention(self.num_heads, dtype=self.dtype, name="attention")(
      x + positions, reference_points(sizes), x, sizes
    )
    x = layer_norm(self.dtype, name="attention_norm")(x + y)
    y = Perceptron((self.hidden, x.shape[-1]), self.dtype, name="mlp")(x)
    return layer_norm(self.dtype, name="mlp_norm")(x + y)


class PixelDecoder(nn.Module):
  """Mixes strides 8 to 32 and makes mask features at stride 4.

  Attributes:
    channels: C, of all levels.
    mask_channels: E.
    num_layers: Layers of deformable attention.
    num_heads: Heads of the attention.
    hidden: Hidden channels of the perceptrons.
    remat: Whether layers keep only their input for the backward pass and are
      recomputed.
    dtype: Compute type; places and weights of the attention are float32.
  """

  channels: int
  mask_channels: int
  num_layers: int
  num_heads: int
  hidden: int
  remat: bool = False
  dtype: jnp.dtype = jnp.float32

  def _conv_norm(
    self, x: jax.Array, name: str, *, size: int = 1, use_bias: bool = False
  ) -> jax.Array:
    x = Conv(
      self.channels,
      (size, size),
      padding=size // 2,
      use_bias=use_bias,
      kernel_init=_xavier,
      dtype=self.dtype,
      name=f"{name}_conv",
    )(x)
    return nn.GroupNorm(
      NUM_GROUPS,
      epsilon=1e-5,
      use_fast_variance=False,
      dtype=self.dtype,
      name=f"{name}_norm",
    )(x)

  @nn.compact
  def __call__(
    self, maps: tuple[jax.Array, ...]
  ) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """Runs the decoder.

    Args:
      maps: At strides 4, 8, 16, 32. [B, h, w, any] float.

    Returns:
      The maps at strides 32, 16, 8, [B, h, w, C], and the mask features,
      [B, H / 4, W / 4, E].
    """
    finest, *others = maps
    levels = [
      self._conv_norm(x, f"input_{i}", use_bias=True)
      for i, x in enumerate(others[::-1])
    ]
    sizes = tuple(x.shape[1:3] for x in levels)
    # Not an "..._embedding": the published optimizer decays this one.
    level_embed = self.param(
      "level_embed", nn.initializers.normal(1.0), (len(levels), self.channels)
    )
    positions = jnp.concatenate(
      [
        sine_positions(*size, self.channels) + level_embed[i]
        for i, size in enumerate(sizes)
      ]
    ).astype(self.dtype)
    x = jnp.concatenate([_flatten(level) for level in levels], axis=1)
    make_layer = nn.remat(Layer, static_argnums=(3,)) if self.remat else Layer
    for i in range(self.num_layers):
      x = make_layer(
        self.num_heads, self.hidden, self.dtype, name=f"layer_{i}"
      )(x, positions, sizes)
    ends = np.cumsum([h * w for h, w in sizes])[:-1]
    levels = tuple(
      part.reshape(part.shape[0], *size, -1)
      for part, size in zip(jnp.split(x, ends, axis=1), sizes, strict=True)
    )
    y = self._conv_norm(finest, "lateral")
    y += resize_bilinear(levels[-1], y.shape[1:3])
    y = nn.relu(self._conv_norm(y, "output", size=3))
    features = Conv(
      self.mask_channels,
      (1, 1),
      kernel_init=_xavier,
      dtype=self.dtype,
      name="mask_features",
    )(y)
    return levels, features


def _flatten(x: jax.Array) -> jax.Array:
  return x.reshape(x.shape[0], -1, x.shape[-1])
