"""Parts of transformers over maps: attention, perceptron, positions, norm.

Shape letters: B images, Q queries, S keys, C channels, h heads.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

_xavier = nn.initializers.xavier_uniform()


def layer_norm(dtype: jnp.dtype, *, name: str | None = None) -> nn.Module:
  """Returns a layer norm with PyTorch's epsilon; statistics are float32.

  Args:
    dtype: Type of the result.
    name: Name of the module.

  Returns:
    The module.
  """
  # The mean of squares minus the squared mean loses precision: PyTorch's values
  # need the centred sum.
  return nn.LayerNorm(
    epsilon=1e-5, use_fast_variance=False, dtype=dtype, name=name
  )


class Attention(nn.Module):
  """Multi-head attention with learned projections of all four parts.

  Parameters: 'query', 'key', 'value' and 'out', dense with bias.

  Attributes:
    num_heads: Heads; they share the channels.
    dtype: Type of the products and of the result; the softmax is float32.
  """

  num_heads: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    blocked: jax.Array | None = None,
  ) -> jax.Array:
    """Returns the attended queries.

    Args:
      query: [B, Q, C] float.
      key: [B, S, C] float.
      value: [B, S, C] float.
      blocked: True where a query must not attend, but not for a whole row;
        None: nowhere. [B, Q, S] bool.

    Returns:
      [B, Q, C] `dtype`.
    """
    channels = query.shape[-1]

    def project(x, name):
      dense = nn.Dense(
        channels, dtype=self.dtype, kernel_init=_xavier, name=name
      )
      return dense(x).reshape(*x.shape[:2], self.num_heads, -1)

    query = project(query, "query") * (channels // self.num_heads) ** -0.5
    scores = jnp.einsum(
      "bqhd,bshd->bhqs",
      query,
      project(key, "key"),
      preferred_element_type=jnp.float32,
    )
    if blocked is not None:
      scores = jnp.where(blocked[:, None], -jnp.inf, scores)
    weights = jax.nn.softmax(scores).astype(self.dtype)
    y = jnp.einsum("bhqs,bshd->bqhd", weights, project(value, "value"))
    return nn.Dense(
      channels, dtype=self.dtype, kernel_init=_xavier, name="out"
    )(y.reshape(*y.shape[:2], channels))


class Perceptron(nn.Module):
  """Dense layers with ReLU between them: 'layer_0', 'layer_1', ...

  Attributes:
    features: Output channels of each layer.
    dtype: Type of the products and of the result.
  """

  features: tuple[int, ...]
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns [..., features[-1]] of an input [..., C]."""
    for i, features in enumerate(self.features):
      x = nn.relu(x) if i else x
      x = nn.Dense(
        features, dtype=self.dtype, kernel_init=_xavier, name=f"layer_{i}"
      )(x)
    return x


@functools.cache
def sine_positions(height: int, width: int, channels: int) -> np.ndarray:
  """Returns pixel positions encoded as sines of many wavelengths.

  As DETR does (https://arxiv.org/abs/2005.12872): places from 1 / n to 1 on
  each axis, as shares of a full circle.

  Args:
    height: Rows.
    width: Columns.
    channels: A multiple of 4; the first half encodes y, the second x.

  Returns:
    Sine and cosine alternate, by increasing wavelength.
    [height * width, channels] float32.
  """
  half = channels // 2
  wavelength = 10000 ** (2 * (np.arange(half) // 2) / half)

  def encode(length):
    place = np.arange(1, length + 1) / (length + 1e-6) * 2 * np.pi
    angle = place[:, None] / wavelength
    return np.where(np.arange(half) % 2, np.cos(angle), np.sin(angle))

  y, x = encode(height), encode(width)
  y = np.broadcast_to(y[:, None], (height, width, half))
  x = np.broadcast_to(x[None], (height, width, half))
  positions = np.concatenate([y, x], axis=-1).reshape(-1, channels)
  return positions.astype(np.float32)
