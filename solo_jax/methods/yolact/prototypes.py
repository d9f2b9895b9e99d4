"""Masks as combinations of prototypes, cropped to boxes.

Shape letters: h, w prototype resolution, k prototypes, n instances.
"""

import dataclasses

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.nn.kernel_maps import apply_kernels
from solo_jax.nn.resize import resize_bilinear


def crop_weights(
  boxes_xyxy: jax.Array, size: tuple[int, int], padded_size: tuple[int, int]
) -> jax.Array:
  """Returns where masks may be: in their box and one pixel around it.

  Args:
    boxes_xyxy: Continuous network pixels. [n, 4] float32.
    size: (h, w).
    padded_size: (H, W) of the network input.

  Returns:
    [n, h, w] bool.
  """
  inside = []
  for axis, length, side in (
    (1, size[0], padded_size[0]),
    (0, size[1], padded_size[1]),
  ):
    # One rounding: a border may be a whole number, and XLA folds a division
    # followed by a product in some releases and not in others.
    ends = boxes_xyxy[:, axis::2] * (length / side)
    low = jnp.maximum(jnp.min(ends, axis=-1) - 1, 0)
    high = jnp.minimum(jnp.max(ends, axis=-1) + 1, length)
    cells = jnp.arange(length)
    inside.append((cells >= low[:, None]) & (cells < high[:, None]))
  rows, columns = inside
  return rows[:, :, None] & columns[:, None, :]


def mask_probs(
  prototypes: jax.Array,
  coefficients: jax.Array,
  boxes_xyxy: jax.Array,
  padded_size: tuple[int, int],
) -> jax.Array:
  """Returns the masks of boxes, 0 outside of them.

  Args:
    prototypes: [h, w, k] float.
    coefficients: [n, k] float.
    boxes_xyxy: Continuous network pixels. [n, 4] float32.
    padded_size: (H, W) of the network input.

  Returns:
    In [0, 1]. [n, h, w] float32.
  """
  logits = apply_kernels(coefficients, prototypes)
  inside = crop_weights(boxes_xyxy, prototypes.shape[:2], padded_size)
  # Where all prototypes are 0 the probability is one half, which is outside;
  # rounding of a resize must not lift it above.
  limit = jnp.where(logits > 0, 1.0, 0.5 - 1e-6)
  probs = jnp.minimum(jax.nn.sigmoid(logits), limit)
  return jnp.where(inside, probs, 0.0)


def resize_masks(
  masks: types.PackedMasks, size: tuple[int, int]
) -> types.PackedMasks:
  """Returns hard targets at the prototypes' resolution, as trained on.

  Args:
    masks: Masks of a batch, at any resolution.
    size: (h, w).

  Returns:
    Coverage of 0 or 255. [B, N] masks of [h, w].
  """
  if masks.encoding == "coverage" and masks.size == size:
    data = jnp.where(masks.data > 127, 255, 0).astype(jnp.uint8)
  else:
    soft = resize_bilinear(masks.unpack().swapaxes(1, 2).swapaxes(2, 3), size)
    soft = soft.swapaxes(2, 3).swapaxes(1, 2)
    data = jnp.where(soft > 0.5, 255, 0).astype(jnp.uint8)
  return dataclasses.replace(masks, data=data, encoding="coverage")
