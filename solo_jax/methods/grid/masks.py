"""The loss of masks that are products of dynamic convolutions.

Every SOLO mask is prod_f sigmoid(feature_f . kernel_f + bias_f): one factor
with a predicted kernel in SOLOv2, one with a learned kernel for each cell in
SOLO, two with kernels that pick a column and a row in Decoupled SOLO.

Shape letters: B images, N instances, P positive pairs, n pairs of a chunk, E
feature channels, h and w mask resolution.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.losses.dice import dice_loss
from solo_jax.losses.instance_sum import instance_sum
from solo_jax.nn.kernel_maps import apply_kernels
from solo_jax.nn.resize import resize_bilinear

# (logits of each factor, each [n, h, w]; targets [n, h, w]) -> losses [n].
MaskLoss = Callable[[tuple[jax.Array, ...], jax.Array], jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Factor:
  """One factor of the masks of P pairs.

  Attributes:
    feature: The map that the kernels act on. [B, h', w', E] float.
    kernel: A 1x1 kernel for each pair. [B, P, E] float.
    bias: [B, P] float.
  """

  feature: jax.Array
  kernel: jax.Array
  bias: jax.Array


def mask_sum(
  factors: tuple[Factor, ...],
  masks: types.PackedMasks,
  instance: jax.Array,
  valid: jax.Array,
  *,
  mask_loss: MaskLoss,
) -> jax.Array:
  """Returns the summed mask loss of all pairs.

  Logits are resized bilinearly to the resolution of `masks`. A 1x1 convolution
  commutes with that, so this equals resizing the feature first, at a fraction
  of the cost.

  Args:
    factors: Factors of the predicted masks.
    masks: Target of every instance. [B, N] masks of [h, w].
    instance: Instance of each pair. [B, P] int32.
    valid: False for padding, which comes last. [B, P] bool.
    mask_loss: Such as `dice`.

  Returns:
    The sum over images and pairs, [] float32.
  """

  def loss(features, rows, targets):
    logits = tuple(
      mask_logits(feature, kernel, bias, masks.size)
      for feature, (kernel, bias) in zip(features, rows, strict=True)
    )
    values = mask_loss(logits, targets.unpack())
    return values, values

  features = tuple(f.feature for f in factors)
  rows = tuple((f.kernel, f.bias) for f in factors)  # one row a pair
  total, _ = instance_sum(loss, features, rows, masks, instance, valid)
  return jnp.sum(total)


def dice(logits: tuple[jax.Array, ...], targets: jax.Array) -> jax.Array:
  """Returns the dice loss of masks; a MaskLoss.

  Args:
    logits: Logits of each factor. [n, h, w] float32.
    targets: [n, h, w] float32.

  Returns:
    [n] float32.
  """
  probs = 1.0
  for factor in logits:
    probs *= jax.nn.sigmoid(factor)
  return dice_loss(probs, targets)


def joint_logits(logits: tuple[jax.Array, ...]) -> jax.Array:
  """Returns the logits of products of probabilities, for losses on logits.

  1 / prod_f sigmoid(x_f) = prod_f (1 + exp(-x_f)), and the odds are one over
  that less 1; kept in logarithms, so that no certainty over- or underflows.

  Args:
    logits: Logits of each factor. [n, h, w] float32.

  Returns:
    x with sigmoid(x) = prod_f sigmoid(logits_f). [n, h, w] float32.
  """
  joint, *others = logits
  for other in others:
    # (1 + a) (1 + b) - 1 = a + b + a b, with a = exp(-joint), b = exp(-other)
    joint = -jnp.logaddexp(jnp.logaddexp(-joint, -other), -joint - other)
  return joint


def mask_logits(
  feature: jax.Array, kernel: jax.Array, bias: jax.Array, size: tuple[int, int]
) -> jax.Array:
  """Returns the map of an image after its kernels are applied.

  Args:
    feature: [h', w', E] float.
    kernel: [P, E] float.
    bias: [P] float.
    size: (h, w) that the logits are resized to.

  Returns:
    [P, h, w] float32.
  """
  logits = apply_kernels(kernel, feature) + bias[:, None, None]
  return resize_bilinear(logits[..., None], size)[..., 0]
