"""The SOLOv2 loss: focal loss on cells, dice loss on masks.

Shape letters: B images, G cells, K classes, P positive pairs, E mask-feature
channels, h and w mask resolution.
"""

import functools

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.losses.dice import dice_loss
from solo_jax.losses.focal import sigmoid_focal_loss
from solo_jax.methods.solov2.network import Outputs
from solo_jax.methods.solov2.targets import Targets, assign_cells


def solov2_loss(
  outputs: Outputs,
  batch: types.Batch,
  *,
  scale_ranges: tuple[tuple[float, float], ...],
  center_sigma: float,
  max_positives: int,
  category_weight: float,
  mask_weight: float,
  focal_alpha: float,
  focal_gamma: float,
  mask_average: str,
  axis_name: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Computes the loss of a batch (SOLOv2, https://arxiv.org/abs/2003.10152).

  category_weight * sum(focal) / (positive cells + 1)
  + mask_weight * sum(dice) / positive pairs. The counts run over the batch on
  all devices, so that the mean of the per-device losses is the loss of the
  global batch. An empty batch has a mask loss of 0 with zero gradient.

  Args:
    outputs: Network outputs.
    batch: The batch; images with `image_valid` False count for nothing.
    scale_ranges: Object sizes of each level, see `assign_cells`.
    center_sigma: See `assign_cells`.
    max_positives: Positive pairs kept per image.
    category_weight: Weight of the focal loss.
    mask_weight: Weight of the dice loss.
    focal_alpha: See `sigmoid_focal_loss`.
    focal_gamma: See `sigmoid_focal_loss`.
    mask_average: 'pairs' divides by the (cell, instance) pairs, as the SOLO
      authors and AdelaiDet do; 'cells' by the distinct positive cells, as
      mmdetection does.
    axis_name: Name of the mapped device axis; None on a single device.

  Returns:
    The loss, [] float32, and its terms: category_loss and mask_loss
    (weighted), num_positives (mean per image), and the counts
    positives_dropped and instances_dropped of this device's batch.
  """
  num_grids = tuple(x.shape[1] for x in outputs.category_logits)
  assign = functools.partial(
    assign_cells,
    padded_size=batch.image.shape[1:3],
    num_grids=num_grids,
    scale_ranges=scale_ranges,
    center_sigma=center_sigma,
    max_positives=max_positives,
  )
  valid = batch.valid & batch.image_valid[:, None]
  targets = jax.vmap(assign)(
    batch.centers, batch.boxes_xyxy, batch.labels, valid
  )
  category_logits = flatten_levels(outputs.category_logits)  # [B, G, K]
  kernel = flatten_levels(outputs.kernel)  # [B, G, E]

  # Means over devices of sums divided by these are sums over global counts.
  total = functools.partial(_mean_over_devices, axis_name=axis_name)
  num_cells = total(jnp.sum(targets.category >= 0))
  num_pairs = total(jnp.sum(targets.valid))

  focal = sigmoid_focal_loss(
    category_logits,
    jax.nn.one_hot(targets.category, category_logits.shape[-1]),
    alpha=focal_alpha,
    gamma=focal_gamma,
  )
  focal = jnp.where(batch.image_valid[:, None, None], focal, 0.0)
  category_loss = category_weight * jnp.sum(focal)
  # "+ 1" counts once over all devices.
  num_devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
  category_loss /= num_cells + 1 / num_devices

  dice = mask_dice(outputs.mask_feature, kernel, batch.masks, targets)
  num_masks = num_pairs if mask_average == "pairs" else num_cells
  mask_loss = mask_weight * dice / jnp.maximum(num_masks, 1 / num_devices)
  terms = dict(
    category_loss=category_loss,
    mask_loss=mask_loss,
    num_positives=jnp.mean(jnp.sum(targets.valid, axis=1, dtype=jnp.float32)),
    positives_dropped=jnp.sum(targets.num_dropped),
    instances_dropped=jnp.sum(batch.num_dropped),
  )
  return category_loss + mask_loss, terms


def mask_dice(
  mask_feature: jax.Array,
  kernel: jax.Array,
  masks: jax.Array,
  targets: Targets,
) -> jax.Array:
  """Sums the dice loss of the masks of all positive pairs.

  Args:
    mask_feature: [B, h, w, E] float.
    kernel: Dynamic kernel of every cell. [B, G, E] float.
    masks: Packed bits [B, N, h, w / 8] or coverage [B, N, h, w], uint8.
    targets: Batched targets, leaves [B, P].

  Returns:
    The sum over images and pairs, [] float32.
  """
  pair_kernel = jnp.take_along_axis(kernel, targets.cell[..., None], axis=1)
  return _dice_sum(
    mask_feature, pair_kernel, masks, targets.instance, targets.valid
  )


# Masks of one image computed at once. Valid pairs come first, so images with
# few objects need few chunks, and no [P, h, w] array outlives its chunk.
CHUNK = 16


@jax.custom_vjp
def _dice_sum(mask_feature, kernel, masks, instance, valid):
  """Sums dice over pairs; kernel [B, P, E], instance and valid [B, P]."""
  return _dice_sum_and_gradients(mask_feature, kernel, masks, instance, valid)[
    0
  ]


def _dice_sum_and_gradients(mask_feature, kernel, masks, instance, valid):
  """Computes the sum and its gradients by mask_feature and kernel in one pass.

  The dice of a mask depends on its own logits only, so the gradient of the sum
  is known as soon as the mask is: nothing has to be kept or computed twice.
  """
  is_packed = masks.shape[-1] != mask_feature.shape[2]
  num_pairs = kernel.shape[1]
  pad = [(0, 0), (0, -num_pairs % CHUNK)]
  kernel = jnp.pad(kernel, [*pad, (0, 0)])
  instance, valid = jnp.pad(instance, pad), jnp.pad(valid, pad)

  def image_sum(inputs):
    feature, kernel, masks, instance, valid = inputs

    def chunk_sum(feature, kernel, target, valid):
      logits = jnp.einsum(
        "pe,hwe->phw", kernel, feature, preferred_element_type=jnp.float32
      )
      if is_packed:
        target = jnp.unpackbits(target, axis=-1).astype(jnp.float32)
      else:
        target = target.astype(jnp.float32) / 255
      return jnp.sum(dice_loss(jax.nn.sigmoid(logits), target, where=valid))

    def add_chunk(i, carry):
      total, feature_gradient, kernel_gradient = carry

      def rows(x):
        return jax.lax.dynamic_slice_in_dim(x, i * CHUNK, CHUNK)

      value, (by_feature, by_kernel) = jax.value_and_grad(
        chunk_sum, argnums=(0, 1)
      )(feature, rows(kernel), masks[rows(instance)], rows(valid))
      kernel_gradient = jax.lax.dynamic_update_slice_in_dim(
        kernel_gradient, by_kernel, i * CHUNK, axis=0
      )
      feature_gradient += by_feature.astype(jnp.float32)
      return total + value, feature_gradient, kernel_gradient

    num_chunks = (jnp.sum(valid) + CHUNK - 1) // CHUNK
    # Chunks are summed in float32 also where features are bfloat16.
    zeros = jnp.zeros((), jnp.float32), jnp.zeros(feature.shape, jnp.float32)
    return jax.lax.fori_loop(
      0, num_chunks, add_chunk, (*zeros, jnp.zeros_like(kernel))
    )

  total, by_feature, by_kernel = jax.lax.map(
    image_sum, (mask_feature, kernel, masks, instance, valid)
  )
  by_feature = by_feature.astype(mask_feature.dtype)
  return jnp.sum(total), (by_feature, by_kernel[:, :num_pairs])


def _dice_sum_backward(gradients, cotangent):
  by_feature, by_kernel = gradients
  return (
    (cotangent * by_feature).astype(by_feature.dtype),
    (cotangent * by_kernel).astype(by_kernel.dtype),
    None,
    None,
    None,
  )


_dice_sum.defvjp(_dice_sum_and_gradients, _dice_sum_backward)


def flatten_levels(levels: tuple[jax.Array, ...]) -> jax.Array:
  """Concatenates [B, S, S, C] levels to [B, G, C]."""
  return jnp.concatenate(
    [x.reshape(x.shape[0], -1, x.shape[-1]) for x in levels], axis=1
  )


def _mean_over_devices(count: jax.Array, axis_name: str | None) -> jax.Array:
  count = count.astype(jnp.float32)
  return count if axis_name is None else jax.lax.pmean(count, axis_name)
