"""Decoded detections -> Instances at the original size of an image.

The only place that distinguishes the frames of masks.
"""

import functools

import jax
import numpy as np

from solo_jax import types
from solo_jax.inference import box_masks, masks


def to_instances(
  decoded: types.Decoded,
  row: int,
  *,
  padded_size: tuple[int, int],
  image_size: tuple[int, int],
  original_size: tuple[int, int],
  threshold: float,
) -> types.Instances:
  """Returns the detections of one image at its original size.

  Args:
    decoded: Decoder outputs of a batch, numpy arrays.
    row: Row of the image in the batch.
    padded_size: (H, W) of the network input.
    image_size: Valid (height, width) of it.
    original_size: (H0, W0) of the image before it was resized.
    threshold: Probability from which a pixel belongs to a mask; whether the
      threshold itself belongs depends on the masks, see `masks_to_original`.

  Returns:
    The valid ones. Boxes are the predicted ones if there are any.
  """
  valid = decoded.valid[row]
  found, tight = masks_to_original(
    jax.tree.map(lambda x: x[row, valid], decoded.masks),
    padded_size=padded_size,
    image_size=image_size,
    original_size=original_size,
    threshold=threshold,
  )
  boxes, mask_boxes = tight, None
  if decoded.boxes_xyxy is not None:
    boxes, mask_boxes = (
      box_masks.boxes_to_original(
        decoded.boxes_xyxy[row, valid], image_size, original_size
      ),
      tight,
    )
  return types.Instances(
    masks=found,
    scores=decoded.scores[row, valid],
    labels=decoded.labels[row, valid],
    boxes_xyxy=boxes,
    mask_boxes_xyxy=mask_boxes,
  )


@functools.singledispatch
def masks_to_original(
  found: types.FrameMasks | types.BoxMasks,
  *,
  padded_size: tuple[int, int],
  image_size: tuple[int, int],
  original_size: tuple[int, int],
  threshold: float,
) -> tuple[np.ndarray | types.CroppedMasks, np.ndarray]:
  """Returns the decoded masks of one image at its original size.

  Args:
    found: Masks without the batch dimension: [M, ...] numpy arrays.
    padded_size: (H, W) of the network input.
    image_size: Valid (height, width) of the network input.
    original_size: (H0, W0).
    threshold: Threshold of the masks.

  Returns:
    See `masks.collect`.
  """
  raise TypeError(f"masks must be FrameMasks or BoxMasks, not {type(found)}")


@masks_to_original.register
def _(found: types.FrameMasks, *, padded_size, threshold, **sizes):
  if found.resize == "direct":
    rows, columns = (
      masks.direct_axis_weights(
        found.probs.shape[1 + axis],
        padded_length=padded_size[axis],
        image_length=sizes["image_size"][axis],
        original_length=sizes["original_size"][axis],
      )
      for axis in range(2)
    )
    return masks.draw_masks(found.probs, rows, columns, threshold)
  stride = padded_size[0] // found.probs.shape[1]
  return masks.masks_to_original(
    found.probs, mask_stride=stride, threshold=threshold, **sizes
  )


@masks_to_original.register
def _(found: types.BoxMasks, *, padded_size, **sizes):
  return box_masks.masks_to_original(found, **sizes)
