"""The heads of a stage of QueryInst (https://arxiv.org/abs/2105.01928).

Shape letters: B images, N proposals, s side of pooled features, C channels, D
channels inside a dynamic convolution, K classes.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.methods.mask_rcnn.heads import Upsample
from solo_jax.nn.attention import Attention, Perceptron, layer_norm
from solo_jax.nn.conv import Conv
from solo_jax.nn.masked_batch_norm import MaskedBatchNorm

xavier = nn.initializers.xavier_uniform()


class DynamicConv(nn.Module):
  """Two 1x1 convolutions whose kernels a proposal's query predicts.

  https://arxiv.org/abs/2011.12450, section 3.3.

  Attributes:
    channels: C.
    dynamic_channels: D.
    is_projected: Whether the result is one vector per proposal, not a map.
    dtype: Compute type.
  """

  channels: int
  dynamic_channels: int
  is_projected: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, query: jax.Array, pooled: jax.Array) -> jax.Array:
    """Returns pooled features after the convolutions.

    Args:
      query: [B, N, C] float.
      pooled: [B, N, s, s, C] float.

    Returns:
      [B, N, C] if `is_projected`, else [B, N, s, s, C]. `dtype`.
    """
    inner, outer = self.dynamic_channels, self.channels
    kernels = self._dense(2 * inner * outer, "dynamic")(query)
    first, second = jnp.split(kernels, 2, axis=-1)
    first = first.reshape(*query.shape[:2], outer, inner)
    second = second.reshape(*query.shape[:2], inner, outer)
    x = pooled.reshape(*query.shape[:2], -1, outer).astype(self.dtype)
    x = nn.relu(layer_norm(self.dtype, name="norm_in")(x @ first))
    x = nn.relu(layer_norm(self.dtype, name="norm_out")(x @ second))
    if not self.is_projected:
      return x.reshape(pooled.shape)
    x = self._dense(outer, "dense")(x.reshape(*query.shape[:2], -1))
    return nn.relu(layer_norm(self.dtype, name="dense_norm")(x))

  def _dense(self, features, name):
    return nn.Dense(features, dtype=self.dtype, kernel_init=xavier, name=name)


class BoxHead(nn.Module):
  """Classes and boxes of the proposals of one stage.

  Attributes:
    num_classes: K.
    num_heads: Heads of the attention among proposals.
    hidden: Channels inside the perceptron.
    dynamic_channels: D.
    num_class_layers: Dense layers before the classes.
    num_box_layers: Dense layers before the boxes.
    box_init: Initialiser of the kernel of the boxes' codes.
    dtype: Compute type.
  """

  num_classes: int
  num_heads: int
  hidden: int
  dynamic_channels: int
  num_class_layers: int
  num_box_layers: int
  box_init: nn.initializers.Initializer
  dtype: jnp.dtype

  @nn.compact
  def __call__(
    self, query: jax.Array, pooled: jax.Array
  ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns what a stage makes of its proposals.

    Args:
      query: Features of the proposals. [B, N, C] float.
      pooled: [B, N, s, s, C] float.

    Returns:
      Logits of the classes [B, N, K] float32, codes of the boxes [B, N, 4]
      float32, features for the next stage [B, N, C], and features for the
      masks of this one [B, N, C].
    """
    channels = query.shape[-1]

    def norm(x, name):
      return layer_norm(self.dtype, name=name)(x)

    attention = Attention(self.num_heads, dtype=self.dtype, name="attention")
    attended = norm(query + attention(query, query, query), "attention_norm")
    dynamic = DynamicConv(
      channels,
      self.dynamic_channels,
      is_projected=True,
      dtype=self.dtype,
      name="dynamic_conv",
    )
    x = norm(attended + dynamic(attended, pooled), "dynamic_conv_norm")
    perceptron = Perceptron(
      (self.hidden, channels), dtype=self.dtype, name="perceptron"
    )
    x = norm(x + perceptron(x), "perceptron_norm")
    logits = self._tower(x, self.num_class_layers, self.num_classes, "category")
    codes = self._tower(x, self.num_box_layers, 4, "box")
    return logits, codes, x, attended

  def _tower(self, x, num_layers, features, name):
    for i in range(num_layers):
      x = nn.Dense(
        x.shape[-1],
        use_bias=False,
        dtype=self.dtype,
        kernel_init=xavier,
        name=f"{name}_dense_{i}",
      )(x)
      x = nn.relu(layer_norm(self.dtype, name=f"{name}_norm_{i}")(x))
    kernel_init, bias_init = self.box_init, nn.initializers.zeros
    if name == "category":
      kernel_init = xavier
      bias_init = nn.initializers.constant(-4.59512)  # focal loss's prior, 0.01
    x = nn.Dense(
      features,
      dtype=self.dtype,
      kernel_init=kernel_init,
      bias_init=bias_init,
      name=name,
    )(x)
    return x.astype(jnp.float32)


class MaskHead(nn.Module):
  """Masks of the proposals of one stage.

  Attributes:
    num_classes: K.
    num_convs: 3x3 convolutions.
    dynamic_channels: D.
    axis_name: Mapped device axis, over which batch norms gather statistics.
    dtype: Compute type.
  """

  num_classes: int
  num_convs: int
  dynamic_channels: int
  axis_name: str | None
  dtype: jnp.dtype

  @nn.compact
  def __call__(
    self,
    query: jax.Array,
    pooled: jax.Array,
    valid: jax.Array,
    *,
    train: bool,
  ) -> jax.Array:
    """Returns the masks of all classes.

    Args:
      query: Features of `BoxHead` for the masks. [B, N, C] float.
      pooled: [B, N, s, s, C] float.
      valid: Proposals whose features count in the statistics. [B, N] bool.
      train: Whether batch norm uses batch statistics.

    Returns:
      Logits. [B, N, 2 s, 2 s, K] float32.
    """
    channels = query.shape[-1]
    dynamic = DynamicConv(
      channels,
      self.dynamic_channels,
      is_projected=False,
      dtype=self.dtype,
      name="dynamic_conv",
    )
    x = dynamic(query, pooled)
    x = x.reshape(-1, *x.shape[2:])
    for i in range(self.num_convs):
      x = Conv(
        channels,
        (3, 3),
        padding=1,
        use_bias=False,
        kernel_init=nn.initializers.he_normal(),
        dtype=self.dtype,
        name=f"conv_{i}",
      )(x)
      x = MaskedBatchNorm(
        axis_name=self.axis_name,
        momentum=0.9,
        epsilon=1e-5,
        dtype=self.dtype,
        name=f"norm_{i}",
      )(x, valid.reshape(-1), train=train)
      x = nn.relu(x)
    x = nn.relu(Upsample(channels, dtype=self.dtype, name="upsample")(x))
    x = Conv(self.num_classes, (1, 1), dtype=self.dtype, name="logits")(x)
    return x.reshape(*query.shape[:2], *x.shape[1:]).astype(jnp.float32)
