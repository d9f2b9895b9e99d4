"""Dice of masks that are products of dynamic convolutions.

Every SOLO mask is prod_f sigmoid(feature_f . kernel_f + bias_f): one factor
with a predicted kernel in SOLOv2, one with a learned kernel for each cell in
SOLO, two with kernels that pick a column and a row in Decoupled SOLO.

Shape letters: B images, N instances, P positive pairs, E feature channels,
h and w mask resolution.
"""

import dataclasses

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.losses.dice import dice_loss
from solo_jax.nn.resize import resize_bilinear

# Masks of one image computed at once. Valid pairs come first, so images with
# few objects need few chunks, and no [P, h, w] array outlives its chunk.
CHUNK = 16


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


@jax.custom_vjp
def dice_sum(
  factors: tuple[Factor, ...],
  masks: types.PackedMasks,
  instance: jax.Array,
  valid: jax.Array,
) -> jax.Array:
  """Sums the dice loss of the masks of all pairs.

  Logits are resized bilinearly to the resolution of `masks`. A 1x1 convolution
  commutes with that, so this equals resizing the feature first, at a fraction
  of the cost.

  Args:
    factors: Of the predicted masks.
    masks: Target of every instance. [B, N] masks of [h, w].
    instance: Instance of each pair. [B, P] int32.
    valid: False for padding, which comes last. [B, P] bool.

  Returns:
    The sum over images and pairs, [] float32.
  """
  return _dice_sum_and_gradients(factors, masks, instance, valid)[0]


def mask_logits(
  feature: jax.Array, kernel: jax.Array, bias: jax.Array, size: tuple[int, int]
) -> jax.Array:
  """Applies kernels to the map of an image.

  Args:
    feature: [h', w', E] float.
    kernel: [P, E] float.
    bias: [P] float.
    size: (h, w) that the logits are resized to.

  Returns:
    [P, h, w] float32.
  """
  logits = jnp.einsum(
    "pe,hwe->phw", kernel, feature, preferred_element_type=jnp.float32
  )
  logits += bias[:, None, None]
  return resize_bilinear(logits[..., None], size)[..., 0]


def _dice_sum_and_gradients(factors, masks, instance, valid):
  """Computes the sum and its gradients by the factors in one pass.

  The dice of a mask depends on its own logits only, so the gradient of the sum
  is known as soon as the mask is: nothing has to be kept or computed twice.
  """
  size = masks.size
  num_pairs = valid.shape[1]
  pad = [(0, 0), (0, -num_pairs % CHUNK)]
  rows = tuple((f.kernel, f.bias) for f in factors)  # one row a pair
  rows, instance, valid = jax.tree.map(
    lambda x: jnp.pad(x, pad + [(0, 0)] * (x.ndim - 2)), (rows, instance, valid)
  )

  def image_sum(inputs):
    features, rows, masks, instance, valid = inputs

    def chunk_sum(features, rows, target, valid):
      probs = 1.0
      for feature, (kernel, bias) in zip(features, rows, strict=True):
        probs *= jax.nn.sigmoid(mask_logits(feature, kernel, bias, size))
      return jnp.sum(dice_loss(probs, target.unpack(), where=valid))

    def add_chunk(i, carry):
      total, feature_gradients, row_gradients = carry

      def chunk(x):
        return jax.lax.dynamic_slice_in_dim(x, i * CHUNK, CHUNK)

      value, (by_features, by_rows) = jax.value_and_grad(
        chunk_sum, argnums=(0, 1)
      )(
        features,
        jax.tree.map(chunk, rows),
        jax.tree.map(lambda x: x[chunk(instance)], masks),
        chunk(valid),
      )
      row_gradients = jax.tree.map(
        lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, i * CHUNK, 0),
        row_gradients,
        by_rows,
      )
      feature_gradients = jax.tree.map(
        lambda x, y: x + y.astype(jnp.float32), feature_gradients, by_features
      )
      return total + value, feature_gradients, row_gradients

    num_chunks = (jnp.sum(valid) + CHUNK - 1) // CHUNK
    # Chunks are summed in float32 also where features are bfloat16.
    zeros = (
      jnp.zeros((), jnp.float32),
      jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), features),
      jax.tree.map(jnp.zeros_like, rows),
    )
    return jax.lax.fori_loop(0, num_chunks, add_chunk, zeros)

  features = tuple(f.feature for f in factors)
  total, by_features, by_rows = jax.lax.map(
    image_sum, (features, rows, masks, instance, valid)
  )
  gradients = tuple(
    Factor(by_feature.astype(f.feature.dtype), *(x[:, :num_pairs] for x in row))
    for f, by_feature, row in zip(factors, by_features, by_rows, strict=True)
  )
  return jnp.sum(total), gradients


def _dice_sum_backward(gradients, cotangent):
  scaled = jax.tree.map(lambda x: (cotangent * x).astype(x.dtype), gradients)
  return scaled, None, None, None


dice_sum.defvjp(_dice_sum_and_gradients, _dice_sum_backward)
