"""The queries of several variants of an image, joined: test-time augmentation.

Shape letters: B images, Q queries, K classes, h, w mask resolution.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from solo_jax.methods.mask2former.network import Outputs
from solo_jax.methods.variants import Variant, to_frame

# Overlap from which two queries have found the same object.
MIN_IOU = 0.5
SMALLEST = 1e-9  # of probabilities whose logarithm is taken


def average_queries(variants: Sequence[Variant]) -> Outputs:
  """Returns the queries of the first variant, averaged with those of others.

  A query has no meaning beyond its image: its partner in another variant is the
  one whose mask overlaps its own most. Class probabilities and mask logits of
  partners are averaged; a query without a partner stays unchanged.

  Args:
    variants: Variants of the batch.

  Returns:
    One output, in the frame of the first variant.
  """
  frame = variants[0]
  size = frame.outputs.mask_logits[-1].shape[2:]
  own = jax.nn.softmax(frame.outputs.class_logits[-1])
  own_masks = frame.outputs.mask_logits[-1]
  probs, masks = own, own_masks
  count = jnp.ones(own.shape[:2])

  def bring(maps, variant):
    return jax.vmap(lambda *args: to_frame(*args, size))(
      maps,
      dataclasses.replace(variant, outputs=None),
      dataclasses.replace(frame, outputs=None),
    )

  own_probs = bring(jax.nn.sigmoid(own_masks), frame)  # 0 in the padding
  for variant in variants[1:]:
    logits = variant.outputs.mask_logits[-1]
    overlap = jax.vmap(_soft_iou)(
      own_probs, bring(jax.nn.sigmoid(logits), variant)
    )  # [B, Q, Q]
    others = bring(logits, variant)
    partner = jnp.argmax(overlap, axis=-1)
    is_found = jnp.max(overlap, axis=-1) >= MIN_IOU

    def of_partner(x, partner=partner, is_found=is_found):
      index = jnp.expand_dims(partner, range(2, x.ndim))
      found = jnp.expand_dims(is_found, range(2, x.ndim))
      return jnp.where(found, jnp.take_along_axis(x, index, axis=1), 0.0)

    probs += of_partner(jax.nn.softmax(variant.outputs.class_logits[-1]))
    masks += of_partner(others)
    count += is_found
  probs /= count[..., None]
  return Outputs(
    class_logits=(jnp.log(jnp.maximum(probs, SMALLEST)),),
    mask_logits=(masks / count[..., None, None],),
  )


def _soft_iou(a: jax.Array, b: jax.Array) -> jax.Array:
  """Returns the overlaps of mask probabilities. [Q, Q] float32."""
  a, b = (x.reshape(len(x), -1) for x in (a, b))
  shared = a @ b.T
  total = a.sum(1)[:, None] + b.sum(1)[None]
  return shared / jnp.maximum(total - shared, SMALLEST)
