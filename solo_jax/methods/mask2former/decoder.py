"""The decoder: queries that attend to the pixels of their masks.

Follows https://arxiv.org/abs/2112.01527, section 3.2. Shape letters: B images,
Q queries, C channels, E mask-feature channels, K classes, S pixels per level,
h, w mask resolution.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.nn.attention import (
  Attention,
  Perceptron,
  layer_norm,
  sine_positions,
)
from solo_jax.nn.conv import Conv
from solo_jax.nn.resize import resize_bilinear

_normal = nn.initializers.normal(1.0)


def blocked_pixels(mask_logits: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Returns where queries must not attend: outside of their masks.

  A query whose mask has no pixel at this size attends everywhere. No gradient
  passes.

  Args:
    mask_logits: [B, Q, h, w] float32.
    size: (height, width) of the level; the logits are resized bilinearly.

  Returns:
    [B, Q, S] bool.
  """
  batch, queries, *mask_size = mask_logits.shape
  logits = jax.lax.stop_gradient(mask_logits)
  logits = resize_bilinear(logits.reshape(-1, *mask_size, 1), size)
  blocked = logits.reshape(batch, queries, -1) < 0
  return blocked & ~jnp.all(blocked, axis=-1, keepdims=True)


class Layer(nn.Module):
  """Masked attention to a level, attention among queries, a perceptron.

  Attributes:
    num_heads: Heads of both attentions.
    hidden: Hidden channels of the perceptron.
    dtype: Compute type.
  """

  num_heads: int
  hidden: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    positions: jax.Array,
    level: jax.Array,
    level_positions: jax.Array,
    blocked: jax.Array,
  ) -> jax.Array:
    """Runs the layer.

    Args:
      x: The queries. [B, Q, C].
      positions: Learned position of each query. [Q, C].
      level: A level of the pyramid. [B, S, C].
      level_positions: Positions of its pixels, for the keys. [S, C].
      blocked: Where a query must not attend. [B, Q, S] bool.

    Returns:
      The queries. [B, Q, C].
    """

    def norm(x, name):
      return layer_norm(self.dtype, name=f"{name}_norm")(x)

    y = Attention(self.num_heads, self.dtype, name="cross")(
      x + positions, level + level_positions, level, blocked
    )
    x = norm(x + y, "cross")
    place = x + positions
    y = Attention(self.num_heads, self.dtype, name="self")(place, place, x)
    x = norm(x + y, "self")
    y = Perceptron((self.hidden, x.shape[-1]), self.dtype, name="mlp")(x)
    return norm(x + y, "mlp")


class MaskedDecoder(nn.Module):
  """Queries refined layer by layer, with a prediction before and after each.

  Attributes:
    num_classes: K.
    num_queries: Q.
    channels: C.
    mask_channels: E.
    num_layers: Layers; they attend to the levels in turn.
    num_heads: Heads of all attentions.
    hidden: Hidden channels of the perceptrons.
    dtype: Compute type; mask logits are float32.
  """

  num_classes: int
  num_queries: int
  channels: int
  mask_channels: int
  num_layers: int
  num_heads: int
  hidden: int
  dtype: jnp.dtype = jnp.float32

  def setup(self):  # noqa: D102
    # "..._embedding": no weight decay, see training/optimizer.py.
    shape = (self.num_queries, self.channels)
    self.query = self.param("query_embedding", _normal, shape)
    self.query_positions = self.param(
      "query_position_embedding", _normal, shape
    )
    self.levels = self.param("level_embedding", _normal, (3, self.channels))
    self.layers = [
      Layer(self.num_heads, self.hidden, self.dtype, name=f"layer_{i}")
      for i in range(self.num_layers)
    ]
    # Used only where the pyramid has other channels.
    self.inputs = [
      Conv(self.channels, (1, 1), dtype=self.dtype, name=f"input_{i}")
      for i in range(3)
    ]
    self.norm = layer_norm(self.dtype)
    self.category = nn.Dense(self.num_classes + 1, dtype=self.dtype)
    self.mask = Perceptron(
      (self.channels, self.channels, self.mask_channels), self.dtype
    )

  def _predict(
    self, x: jax.Array, mask_features: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Returns class [B, Q, K + 1] and mask logits [B, Q, h, w], float32."""
    x = self.norm(x)
    mask_logits = jnp.einsum(
      "bqe,bhwe->bqhw",
      self.mask(x).astype(jnp.float32),
      mask_features.astype(jnp.float32),
    )
    return self.category(x).astype(jnp.float32), mask_logits

  def __call__(
    self, levels: tuple[jax.Array, ...], mask_features: jax.Array
  ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
    """Runs the decoder.

    Args:
      levels: Maps at strides 32, 16, 8. [B, height, width, any] float.
      mask_features: [B, h, w, E] float.

    Returns:
      Class logits [B, Q, K + 1] and mask logits [B, Q, h, w], float32, before
      the first layer and after each.
    """
    sizes = [x.shape[1:3] for x in levels]
    sources, source_positions = [], []
    for i, (level, size) in enumerate(zip(levels, sizes, strict=True)):
      if level.shape[-1] != self.channels:
        level = self.inputs[i](level)
      level = level.reshape(level.shape[0], -1, self.channels)
      sources.append(level + self.levels[i].astype(self.dtype))
      positions = sine_positions(*size, self.channels)
      source_positions.append(jnp.asarray(positions, self.dtype))
    positions = self.query_positions.astype(self.dtype)
    x = jnp.broadcast_to(
      self.query.astype(self.dtype), (levels[0].shape[0], *self.query.shape)
    )
    predictions = [self._predict(x, mask_features)]
    for i, layer in enumerate(self.layers):
      level = i % len(levels)
      blocked = blocked_pixels(predictions[-1][1], sizes[level])
      x = layer(x, positions, sources[level], source_positions[level], blocked)
      predictions.append(self._predict(x, mask_features))
    return tuple(zip(*predictions, strict=True))
