"""The targets of YOLACT as outputs of its network.

Shape letters: B images, N instances, M detections.
"""

import jax
import jax.numpy as jnp

from solo_jax import types
from solo_jax.methods.yolact.detections import Detections
from solo_jax.methods.yolact.network import YOLACT, Outputs
from solo_jax.methods.yolact.prototypes import crop_weights, resize_masks


def perfect_outputs(network: YOLACT, batch: types.Batch) -> Outputs:
  """Returns outputs that detect each instance of a batch.

  Args:
    network: Only its attributes are read.
    batch: Images with their targets.

  Returns:
    One detection for each instance, as far as there is room; its mask is the
    target inside the crop.
  """
  number = network.detection.max_detections

  def fit(x):
    x = x[:, :number]
    padding = [(0, 0), (0, number - x.shape[1]), *[(0, 0)] * (x.ndim - 2)]
    return jnp.pad(x, padding)

  # P3 has a stride of 8, rounded up, and prototypes twice its size.
  size = tuple(2 * -(-side // 8) for side in batch.image.shape[1:3])
  masks = batch.masks
  if masks.size != size:
    masks = resize_masks(masks, size)
  masks = masks.unpack()
  inside = jax.vmap(
    lambda boxes: crop_weights(boxes, size, batch.image.shape[1:3])
  )(batch.boxes_xyxy)
  valid = fit(batch.valid)
  return Outputs(
    detections=Detections(
      boxes_xyxy=fit(batch.boxes_xyxy),
      coefficients=jnp.zeros((*valid.shape, network.num_protos)),
      scores=valid.astype(jnp.float32),
      labels=fit(batch.labels),
      valid=valid,
    ),
    mask_probs=fit(jnp.where(inside, masks, 0.0)),
  )
