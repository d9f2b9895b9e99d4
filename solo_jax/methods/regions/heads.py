"""Box heads: for proposals and for classes.

Shape letters: B images, R boxes, K classes, A anchors per position, h, w size
of a level, s side of pooled features, C channels.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.methods.regions.initial_values import dense_start
from solo_jax.nn.conv import Conv
from solo_jax.nn.layers import make_norm

BOX_CLASSES = ("each", "all")

_msra = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ConvBlock(nn.Module):
  """3x3 convolution, normalisation where there is one, ReLU.

  Attributes:
    channels: Output channels.
    norm: None, or see `layers.make_norm`; the convolution then has no bias.
    axis_name: Mapped device axis of 'sync'.
    dtype: Compute type.
  """

  channels: int
  norm: str | None
  axis_name: str | None
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Returns [n, h, w, channels] of a map [n, h, w, C]."""
    x = Conv(
      self.channels,
      (3, 3),
      padding=1,
      use_bias=self.norm is None,
      kernel_init=_msra,
      dtype=self.dtype,
      name="conv",
    )(x)
    if self.norm is not None:
      norm = make_norm(
        self.norm, train=train, dtype=self.dtype, axis_name=self.axis_name
      )
      x = norm(name="norm")(x)
    return nn.relu(x)


class ProposalHead(nn.Module):
  """Region proposal network (https://arxiv.org/abs/1506.01497).

  Attributes:
    num_convs: 3x3 convolutions with ReLU.
    channels: Their channels.
    num_anchors: A.
    dtype: Compute type.
  """

  num_convs: int
  channels: int
  num_anchors: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, level: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the proposals' logits and offsets of one level.

    Args:
      level: [B, h, w, C] float.

    Returns:
      Logits of an object, [B, h * w * A] float32, and box codes,
      [B, h * w * A, 4] float32, in the order of `anchors.make_anchors`.
    """
    init = nn.initializers.normal(0.01)
    x = level
    for i in range(self.num_convs):
      x = Conv(
        self.channels,
        (3, 3),
        padding=1,
        kernel_init=init,
        dtype=self.dtype,
        name=f"conv_{i}",
      )(x)
      x = nn.relu(x)
    outputs = [
      Conv(
        self.num_anchors * size,
        (1, 1),
        kernel_init=init,
        dtype=self.dtype,
        name=name,
      )(x).astype(jnp.float32)
      for name, size in (("logits", 1), ("codes", 4))
    ]
    batch = len(level)
    return outputs[0].reshape(batch, -1), outputs[1].reshape(batch, -1, 4)


class BoxHead(nn.Module):
  """Class and box of pooled features.

  Attributes:
    num_classes: K.
    box_classes: 'each': a box for each class; 'all': one box for all.
    num_convs: 3x3 convolutions before the dense layers.
    conv_channels: Their channels.
    num_dense: Dense layers with ReLU.
    dense_channels: Their channels.
    dense_init: How dense layers start, see `dense_start`.
    norm: Norm of the convolutions, see `ConvBlock`.
    axis_name: Mapped device axis of 'sync'.
    dtype: Compute type.
  """

  num_classes: int
  box_classes: str
  num_convs: int
  conv_channels: int
  num_dense: int
  dense_channels: int
  dense_init: str
  norm: str | None
  axis_name: str | None
  dtype: jnp.dtype

  @nn.compact
  def __call__(
    self, x: jax.Array, *, train: bool
  ) -> tuple[jax.Array, jax.Array]:
    """Returns the class logits and offsets of boxes.

    Args:
      x: Pooled features. [B, R, s, s, C] float.
      train: Whether batch norm uses batch statistics.

    Returns:
      Logits, background last, [B, R, K + 1] float32, and box codes,
      [B, R, K or 1, 4] float32.

    Raises:
      ValueError: If `box_classes` is unknown.
    """
    if self.box_classes not in BOX_CLASSES:
      raise ValueError(
        f"box_classes must be in {BOX_CLASSES}, got {self.box_classes!r}."
      )
    batch, num_boxes = x.shape[:2]
    x = x.reshape(batch * num_boxes, *x.shape[2:])
    for i in range(self.num_convs):
      x = ConvBlock(
        self.conv_channels,
        norm=self.norm,
        axis_name=self.axis_name,
        dtype=self.dtype,
        name=f"conv_{i}",
      )(x, train=train)
    x = x.reshape(batch, num_boxes, -1)
    for i in range(self.num_dense):
      x = nn.relu(self._dense(x, self.dense_channels, f"dense_{i}"))
    num_boxes_each = self.num_classes if self.box_classes == "each" else 1
    logits = self._dense(x, self.num_classes + 1, "logits", std=0.01)
    codes = self._dense(x, num_boxes_each * 4, "codes", std=0.001)
    codes = codes.reshape(*codes.shape[:2], num_boxes_each, 4)
    return logits.astype(jnp.float32), codes.astype(jnp.float32)

  def _dense(self, x, features, name, std=None):
    start = dense_start(self.dense_init, x.shape[-1], std)
    return nn.Dense(features, dtype=self.dtype, name=name, **start)(x)
