"""From the last output to detections, on the device.

Shape letters: B images, Q queries, K classes, M detections, h, w mask
resolution, H, W padded input.
"""

from collections.abc import Collection

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax import types
from solo_jax.methods.mask2former.network import MASK_STRIDE, Outputs
from solo_jax.nn.resize import resize_bilinear


def decode(
  outputs: Outputs,
  image_size: jax.Array,
  *,
  things: Collection[int],
  max_detections: int,
) -> types.Decoded:
  """Returns detections: any class of any query, by decreasing probability.

  The score is the probability of the class times the mean probability inside
  the mask. The mean is taken at the input's size here, and at the image's own
  size in `merging.merge_instances`.

  Args:
    outputs: Outputs of the network; the last output counts.
    image_size: Valid (height, width). [B, 2] int32.
    things: Labels of things; stuff is left out after the best were chosen.
    max_detections: M, at most Q * K.

  Returns:
    The detections. `masks.probs` are logits on a scale from 0 to 1, 0.5 at the
    edge: the published masks are those of resized logits, not of resized
    probabilities.
  """
  class_logits, mask_logits = outputs.class_logits[-1], outputs.mask_logits[-1]
  num_classes = class_logits.shape[-1] - 1
  probs = jax.nn.softmax(class_logits)[..., :-1]
  scores, index = jax.lax.top_k(probs.reshape(len(probs), -1), max_detections)
  query, labels = index // num_classes, index % num_classes
  quality = mask_quality(mask_logits, image_size)
  scores *= jnp.take_along_axis(quality, query, axis=1)
  is_thing = np.isin(np.arange(num_classes), list(things))
  scores = jnp.where(jnp.asarray(is_thing)[labels], scores, 0.0)
  scores, order = jax.lax.top_k(scores, max_detections)
  query, labels = (
    jnp.take_along_axis(x, order, axis=1) for x in (query, labels)
  )
  logits = jnp.take_along_axis(mask_logits, query[..., None, None], axis=1)
  largest = jnp.max(jnp.abs(logits), axis=(2, 3), keepdims=True)
  return types.Decoded(
    masks=types.FrameMasks(
      probs=0.5 + 0.5 * logits / jnp.maximum(largest, 1e-6)
    ),
    scores=scores,
    labels=jnp.where(scores > 0, labels, 0),
    valid=scores > 0,
    num_dropped=jnp.zeros(len(scores), jnp.int32),
  )


def mask_quality(mask_logits: jax.Array, image_size: jax.Array) -> jax.Array:
  """Returns the mean probability inside each mask, at the input's size.

  Args:
    mask_logits: [B, Q, h, w] float32.
    image_size: Valid (height, width). [B, 2] int32.

  Returns:
    0 for an empty mask. [B, Q] float32.
  """
  size = tuple(n * MASK_STRIDE for n in mask_logits.shape[2:])
  rows, columns = (
    jnp.arange(n) < image_size[:, axis, None] for axis, n in enumerate(size)
  )
  is_image = rows[:, :, None] & columns[:, None, :]

  def of_query(logits):  # [B, h, w]: a map of the input's size at a time
    logits = resize_bilinear(logits[..., None], size)[..., 0]
    inside = is_image & (logits > 0)
    total = jnp.sum(jax.nn.sigmoid(logits), axis=(1, 2), where=inside)
    return total / (jnp.sum(inside, axis=(1, 2)) + 1e-6)

  return jax.lax.map(of_query, mask_logits.swapaxes(0, 1)).T
