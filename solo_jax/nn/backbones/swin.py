"""Swin Transformer (https://arxiv.org/abs/2103.14030) as a backbone.

Shape letters: B images, H, W size of the map, C channels, w side of a window,
n pixels of a window, heads * D = C.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.nn.attention import layer_norm
from solo_jax.nn.backbones.swin_windows import (
  relative_position_index,
  shift_mask,
)
from solo_jax.nn.draws import row_keys

# Table 7 of the paper; windows of B and L as in the models trained at 384.
SIZES = {
  "t": dict(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24)),
  "s": dict(embed_dim=96, depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24)),
  "b": dict(
    embed_dim=128,
    depths=(2, 2, 18, 2),
    num_heads=(4, 8, 16, 32),
    window_size=12,
  ),
  "l": dict(
    embed_dim=192,
    depths=(2, 2, 18, 2),
    num_heads=(6, 12, 24, 48),
    window_size=12,
  ),
}
PATCH = 4

_normal = nn.initializers.truncated_normal(0.02)


def is_frozen(name: str, frozen_stages: int) -> bool:
  """Returns whether a parameter belongs to a frozen stage.

  Args:
    name: Top-level name in the backbone's parameter tree: 'patch_...',
      'stage<stage>_<block>', 'merge<stage>' or 'norm<stage>'.
    frozen_stages: The backbone's attribute of that name.

  Returns:
    True for the patches (when any stage is frozen) and the frozen stages.
  """
  if name.startswith("patch_"):
    return frozen_stages > 0
  return int(name.split("_")[0][-1]) <= frozen_stages


def drop_path_rates(depths: Sequence[int], rate: float) -> np.ndarray:
  """Returns the share of images that each block skips, rising with depth.

  Args:
    depths: Blocks of each stage.
    rate: Rate of the last block.

  Returns:
    From 0 to `rate`, one for each block of all stages. [blocks] float64.
  """
  return np.linspace(0.0, rate, sum(depths))


def gather_neighbours(x: jax.Array) -> jax.Array:
  """Returns 2 x 2 pixels gathered into one, zeros at the right and bottom.

  Args:
    x: [B, H, W, C].

  Returns:
    Channels of (row, column) (0, 0), (1, 0), (0, 1), (1, 1), in this order.
    [B, ceil(H / 2), ceil(W / 2), 4 C].
  """
  batch, height, width, channels = x.shape
  x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
  height, width = -(-height // 2), -(-width // 2)
  x = x.reshape(batch, height, 2, width, 2, channels)
  x = x.transpose(0, 1, 3, 4, 2, 5)
  return x.reshape(batch, height, width, 4 * channels)


class PatchEmbed(nn.Module):
  """A linear map of the pixels of each 4 x 4 patch.

  Attributes:
    features: Output channels.
    dtype: Type of the product and of the result.
  """

  features: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns [B, ceil(H / 4), ceil(W / 4), features] of a map [B, H, W, c]."""
    batch, height, width, channels = x.shape
    shape = (PATCH, PATCH, channels, self.features)
    kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    x = jnp.pad(x, ((0, 0), (0, -height % PATCH), (0, -width % PATCH), (0, 0)))
    height, width = -(-height // PATCH), -(-width // PATCH)
    # Patches do not overlap: a matrix product, of which the kernel's gradient
    # is one as well.
    x = x.reshape(batch, height, PATCH, width, PATCH, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height, width, -1)
    kernel = kernel.reshape(-1, self.features)
    return x.astype(self.dtype) @ kernel.astype(self.dtype) + bias.astype(
      self.dtype
    )


class WindowAttention(nn.Module):
  """Attention among the pixels of each window.

  Parameters: 'query', 'key', 'value' and 'out', dense, and 'bias_table',
  [(2 w - 1)^2, heads].

  Attributes:
    num_heads: Heads.
    window_size: w.
    shift: Pixels by which the map was rolled.
    dtype: Type of the products and of the result; the softmax is float32.
  """

  num_heads: int
  window_size: int
  shift: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns a map like [B, H, W, C]; H and W are multiples of w."""
    batch, height, width, channels = x.shape
    side, heads = self.window_size, self.num_heads
    rows, columns = height // side, width // side
    dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=_normal)

    def project(name):
      y = dense(channels, name=name)(x)
      y = y.reshape(batch, rows, side, columns, side, heads, -1)
      y = y.transpose(0, 1, 3, 5, 2, 4, 6)
      return y.reshape(batch * rows * columns, heads, side**2, -1)

    query = project("query")
    query = query * (channels // heads) ** -0.5
    scores = jnp.einsum(
      "bhqd,bhkd->bhqk",
      query,
      project("key"),
      preferred_element_type=jnp.float32,
    )
    table = self.param(
      "bias_table", _normal, ((2 * side - 1) ** 2, heads), jnp.float32
    )
    bias = table[relative_position_index(side)].transpose(2, 0, 1)
    if self.shift:
      mask = shift_mask(height, width, side, self.shift)
      bias = bias[None] + mask[:, None]
      scores = scores.reshape(batch, rows * columns, *scores.shape[1:]) + bias
      scores = scores.reshape(-1, *scores.shape[2:])
    else:
      scores += bias
    weights = jax.nn.softmax(scores).astype(self.dtype)
    y = jnp.einsum("bhqk,bhkd->bhqd", weights, project("value"))
    y = y.reshape(batch, rows, columns, heads, side, side, -1)
    y = y.transpose(0, 1, 4, 2, 5, 3, 6).reshape(x.shape)
    return dense(channels, name="out")(y)


class Block(nn.Module):
  """Window attention and a perceptron, each with a norm and a residual path.

  Attributes:
    num_heads: Heads of the attention.
    window_size: w.
    shift: Pixels by which the windows are shifted.
    mlp_ratio: Hidden channels of the perceptron, as a multiple of C.
    dtype: Compute type.
  """

  num_heads: int
  window_size: int
  shift: int
  mlp_ratio: int
  dtype: jnp.dtype

  def _attend(self, x: jax.Array) -> jax.Array:
    """Returns window attention on the padded and shifted map, both undone."""
    height, width = x.shape[1:3]
    low = (0, -height % self.window_size), (0, -width % self.window_size)
    x = jnp.pad(x, ((0, 0), *low, (0, 0)))
    x = jnp.roll(x, (-self.shift, -self.shift), (1, 2))
    x = WindowAttention(
      self.num_heads,
      self.window_size,
      self.shift,
      self.dtype,
      name="attention",
    )(x)
    return jnp.roll(x, (self.shift, self.shift), (1, 2))[:, :height, :width]

  @nn.compact
  def __call__(self, x: jax.Array, factors: jax.Array | None) -> jax.Array:
    """Runs the block.

    Args:
      x: [B, H, W, C].
      factors: Factors of the two branches of each image, 0 if skipped; None:
        all 1. [B, 2] float32.

    Returns:
      [B, H, W, C].
    """

    def add(x, branch, i):
      if factors is not None:
        branch *= factors[:, i, None, None, None].astype(branch.dtype)
      return x + branch

    norm = functools.partial(layer_norm, self.dtype)
    x = add(x, self._attend(norm(name="norm1")(x)), 0)
    dense = functools.partial(nn.Dense, dtype=self.dtype, kernel_init=_normal)
    hidden = dense(self.mlp_ratio * x.shape[-1], name="mlp_in")(
      norm(name="norm2")(x)
    )
    hidden = jax.nn.gelu(hidden, approximate=False)
    return add(x, dense(x.shape[-1], name="mlp_out")(hidden), 1)


class PatchMerging(nn.Module):
  """Halves the map and doubles the channels.

  Attributes:
    dtype: Compute type.
  """

  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns [B, ceil(H / 2), ceil(W / 2), 2 C] of a map [B, H, W, C]."""
    features = 2 * x.shape[-1]
    x = layer_norm(self.dtype, name="norm")(gather_neighbours(x))
    return nn.Dense(
      features,
      use_bias=False,
      dtype=self.dtype,
      kernel_init=_normal,
      name="reduction",
    )(x)


class Swin(nn.Module):
  """Swin Transformer without its classifier.

  Attributes:
    embed_dim: Channels of the first stage; every later one has twice as many as
      the one before.
    depths: Blocks of the four stages.
    num_heads: Heads in the four stages.
    window_size: w, on maps of any size.
    mlp_ratio: Hidden channels of a perceptron, as a multiple of its stage's.
    drop_path_rate: Share of the images that skip a branch of the last block
      in training; it rises linearly from 0 in the first.
    frozen_stages: With n > 0, the patches and the first n stages get no
      gradient.
    remat: Stages (1 to 4) whose blocks keep only their input for the backward
      pass and are computed twice.
    dtype: Type of products and results; parameters, softmax and statistics
      are float32.
  """

  embed_dim: int
  depths: Sequence[int]
  num_heads: Sequence[int]
  window_size: int = 7
  mlp_ratio: int = 4
  drop_path_rate: float = 0.3
  frozen_stages: int = 0
  remat: Sequence[int] = ()
  dtype: jnp.dtype = jnp.float32

  def _factors(self, row: jax.Array | None) -> jax.Array:
    """Returns random factors of the branches. [B, blocks, 2] float32."""
    if row is None:
      raise ValueError(
        "training with drop_path_rate needs `row`, the row of each image in "
        "the global batch"
      )
    kept = 1 - drop_path_rates(self.depths, self.drop_path_rate)
    keys = row_keys(self.make_rng("draws"), row)
    draws = jax.vmap(
      functools.partial(jax.random.uniform, shape=(len(kept), 2))
    )(keys)
    kept = jnp.asarray(kept[:, None], jnp.float32)
    return (draws < kept) / kept

  @nn.compact
  def __call__(
    self, x: jax.Array, *, train: bool, row: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns the feature maps.

    Args:
      x: Normalised image of any size. [B, H, W, 3] float.
      train: Whether blocks are skipped at random.
      row: Row of each image in the global batch, needed in training.
        [B] int32.

    Returns:
      Maps at strides 4, 8, 16, 32, each after its norm. [B, ceil(H / stride),
      ceil(W / stride), C].

    Raises:
      ValueError: If the depths are not four, or `row` is missing.
    """
    if not len(self.depths) == len(self.num_heads) == 4:
      raise ValueError(
        "depths and num_heads must have 4 entries each, got "
        f"{tuple(self.depths)} and {tuple(self.num_heads)}."
      )
    has_drops = train and self.drop_path_rate > 0
    factors = self._factors(row) if has_drops else None
    norm = functools.partial(layer_norm, self.dtype)
    x = PatchEmbed(self.embed_dim, self.dtype, name="patch_embed")(x)
    x = norm(name="patch_norm")(x)
    features, block = [], 0
    for stage in range(1, 5):
      make_block = nn.remat(Block) if stage in self.remat else Block
      for i in range(self.depths[stage - 1]):
        x = make_block(
          num_heads=self.num_heads[stage - 1],
          window_size=self.window_size,
          shift=self.window_size // 2 if i % 2 else 0,
          mlp_ratio=self.mlp_ratio,
          dtype=self.dtype,
          name=f"stage{stage}_{i}",
        )(x, None if factors is None else factors[:, block])
        block += 1
      feature = norm(name=f"norm{stage}")(x)
      if stage < 4:
        x = PatchMerging(self.dtype, name=f"merge{stage}")(x)
      if stage <= self.frozen_stages:
        x, feature = jax.lax.stop_gradient((x, feature))
      features.append(feature)
    return tuple(features)
