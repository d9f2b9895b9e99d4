"""The heads of YOLACT.

Shape letters: B images, A priors of all levels, K classes, k prototypes, n
masks, C channels.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from solo_jax.nn.conv import Conv
from solo_jax.nn.resize import resize_bilinear


def make_conv(
  features: int,
  kernel_size: int,
  name: str | None,
  *,
  dtype: jnp.dtype,
  stride: int = 1,
) -> nn.Module:
  """Returns a convolution as YOLACT initialises it."""
  return Conv(
    features,
    (kernel_size, kernel_size),
    strides=stride,
    padding=kernel_size // 2,
    kernel_init=nn.initializers.xavier_uniform(),
    dtype=dtype,
    name=name,
  )


class PriorHead(nn.Module):
  """Classes, boxes and mask coefficients of all priors; shared by the levels.

  Attributes:
    channels: Channels of the convolution before the predictors.
    num_classes: K.
    num_protos: k.
    per_position: Priors per position.
    dtype: Compute type.
  """

  channels: int
  num_classes: int
  num_protos: int
  per_position: int
  dtype: jnp.dtype

  def setup(self):  # noqa: D102
    def predictor(features):
      return make_conv(features * self.per_position, 3, None, dtype=self.dtype)

    self.shared = make_conv(self.channels, 3, None, dtype=self.dtype)
    self.category = predictor(self.num_classes + 1)
    self.box = predictor(4)
    self.coefficient = predictor(self.num_protos)

  def __call__(
    self, pyramid: Sequence[jax.Array]
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the predictions for the priors of P3 to P7.

    Args:
      pyramid: [B, h, w, C] each.

    Returns:
      Logits of the background and the classes [B, A, K + 1], codes of the
      boxes [B, A, 4], coefficients in [-1, 1] [B, A, k]; all float32.
    """
    predicted = []
    for x in pyramid:
      x = jax.nn.relu(self.shared(x))
      maps = (self.category(x), self.box(x), jnp.tanh(self.coefficient(x)))
      predicted.append(
        [y.reshape(len(y), -1, y.shape[-1] // self.per_position) for y in maps]
      )
    logits, codes, coefficients = (
      jnp.concatenate(levels, axis=1).astype(jnp.float32)
      for levels in zip(*predicted, strict=True)
    )
    return logits, codes, coefficients


class PrototypeHead(nn.Module):
  """Prototype masks at twice the resolution of P3.

  Attributes:
    channels: Channels of the 3x3 convolutions.
    num_protos: k.
    dtype: Compute type.
  """

  channels: int
  num_protos: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns the prototypes, >= 0. [B, 2 h, 2 w, k], given P3."""

    def conv(x, i):
      x = make_conv(self.channels, 3, f"conv_{i}", dtype=self.dtype)(x)
      return jax.nn.relu(x)

    for i in range(3):
      x = conv(x, i)
    x = resize_bilinear(x, (2 * x.shape[1], 2 * x.shape[2]))
    x = conv(x, 3)
    predict = make_conv(self.num_protos, 1, "predict", dtype=self.dtype)
    return jax.nn.relu(predict(x))


class MaskScoreHead(nn.Module):
  """Predicts how well a mask fits, for each class (YOLACT++).

  https://arxiv.org/abs/1912.06218, section 3.2.

  Attributes:
    channels: Channels of the strided 3x3 convolutions.
    num_classes: K.
    dtype: Compute type.
  """

  channels: tuple[int, ...]
  num_classes: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, masks: jax.Array) -> jax.Array:
    """Returns the predicted IoU of each mask with the truth, for each class.

    Args:
      masks: Cropped masks in [0, 1]. [n, h, w] float32.

    Returns:
      >= 0. [n, K] float32.
    """
    x = masks[..., None].astype(self.dtype)
    for i, features in enumerate(self.channels):
      conv = Conv(
        features,
        (3, 3),
        strides=2,
        padding="VALID",
        kernel_init=nn.initializers.xavier_uniform(),
        dtype=self.dtype,
        name=f"conv_{i}",
      )
      x = jax.nn.relu(conv(x))
    predict = make_conv(self.num_classes, 1, "predict", dtype=self.dtype)
    return jnp.max(jax.nn.relu(predict(x)), axis=(1, 2)).astype(jnp.float32)
