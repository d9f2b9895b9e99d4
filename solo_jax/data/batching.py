"""Renders a Sample once: padded image and mask targets, one row of a Batch.

Shape letters:
  H, W: padded network input.
  N: ground-truth instances, padded. H0, W0: original image.
"""

import dataclasses
from typing import Any

import cv2
import numpy as np
import PIL.Image

from solo_jax.data.mask_frames import BoxFrame, ImageFrame
from solo_jax.data.mask_targets import (
  Visible,
  fill_cells,
  find_visible,
  locate_cells,
)
from solo_jax.data.rle_masks import RleMasks
from solo_jax.data.transforms import (
  Axis,
  boxes_in_frame,
  split_axes,
  to_uint8,
)
from solo_jax.types import NO_STUFF, CroppedMasks, Sample

# Colour outside of the image: the mean of ImageNet.
OUTSIDE = (124, 117, 104)
STUFF_STRIDE = 8  # of P3, at which HTC's semantic branch works
INTERPOLATIONS = ("bilinear", "area", "antialias")
# Two-tap bilinear sampling begins to skip source pixels visibly below this
# scale (it does below 0.5); averaging costs 3 to 4 times as much.
_AREA_BELOW = 0.6
# cv2.flip's code by (vertical, horizontal).
_FLIP_CODES = {
  (False, False): None,
  (True, False): 0,
  (False, True): 1,
  (True, True): -1,
}
# Tolerance: whole-pixel positions are float64 products of sizes up to 1e5.
_TOLERANCE = 1e-6


def render_image(
  sample: Sample, *, image_size: tuple[int, int], interpolation: str
) -> np.ndarray:
  """Returns the image of a sample, rendered in its network frame.

  Args:
    sample: Any sample whose affine is made of transpositions, flips, resizes
      to whole pixels and crops at whole pixels (all of `transforms` is).
    image_size: (height, width) of the padded result.
    interpolation: 'bilinear', two taps an axis (OpenCV's); 'area': averages
      where the image shrinks below 0.6, 'bilinear' otherwise; 'antialias':
      Pillow's bilinear, whose filter widens as the image shrinks.

  Returns:
    RGB image, zero beyond `sample.image_size`, OUTSIDE where that reaches
    beyond the image. [H, W, 3] uint8. 16-bit images are converted to 8 bits by
    `transforms.to_uint8`.

  Raises:
    ValueError: If the valid image exceeds `image_size`, `interpolation` is
      unknown or the affine is not as described.
  """
  height, width = sample.image_size
  if height > image_size[0] or width > image_size[1]:
    raise ValueError(
      f"image {sample.image_id}: content of {sample.image_size} exceeds the "
      f"network input of {tuple(image_size)}; resize or crop it first."
    )
  if interpolation not in INTERPOLATIONS:
    raise ValueError(
      f"interpolation must be one of {INTERPOLATIONS}, got {interpolation!r}."
    )
  is_transposed, y, x = split_axes(sample)
  canvas = np.zeros((*image_size, 3), np.uint8)
  image = to_uint8(sample.image)
  if is_transposed:
    image = cv2.transpose(image)
  full = [_whole(sample, abs(axis.scale) * axis.length) for axis in (y, x)]
  # Start of the valid frame in the resized image, before mirroring.
  top, left = (_start(sample, axis) for axis in (y, x))
  target = canvas[:height, :width]
  flip = _FLIP_CODES[y.scale < 0, x.scale < 0]
  if full != list(image.shape[:2]):
    scale = min(abs(y.scale), abs(x.scale))
    is_whole = full == [height, width] and (top, left) == (0, 0)
    is_final = flip is None and is_whole
    image = _resize(
      image, full, interpolation, scale, target if is_final else None
    )
    if image is target:
      return canvas
  # Crop first, so that a flip touches fewer pixels.
  image = _crop(image, top, left, (height, width))
  if flip is None:
    target[...] = image
  else:
    cv2.flip(image, flip, dst=target)
  return canvas


def _resize(
  image: np.ndarray,
  size: list[int],
  interpolation: str,
  scale: float,
  target: np.ndarray | None,
) -> np.ndarray:
  """Returns the image at (height, width) `size`, in `target` if given."""
  if interpolation == "antialias":
    image = PIL.Image.fromarray(np.ascontiguousarray(image))
    image = image.resize(size[::-1], PIL.Image.Resampling.BILINEAR)
    if target is None:
      return np.asarray(image)
    target[...] = image
    return target
  is_small = scale < _AREA_BELOW and interpolation == "area"
  method = cv2.INTER_AREA if is_small else cv2.INTER_LINEAR
  resized = cv2.resize(image, size[::-1], dst=target, interpolation=method)
  return resized if target is None else target


def _start(sample: Sample, axis: Axis) -> int:
  """Returns the first pixel of the frame along an axis of the whole image."""
  offset = _whole(sample, axis.offset)
  return offset - axis.extent if axis.scale < 0 else -offset


def _crop(
  image: np.ndarray, top: int, left: int, size: tuple[int, int]
) -> np.ndarray:
  """Returns a window of the image, which may reach beyond it."""
  shape = image.shape[:2]
  bottom, right = top + size[0], left + size[1]
  if min(top, left) >= 0 and bottom <= shape[0] and right <= shape[1]:
    return image[top:bottom, left:right]
  window = np.empty((*size, 3), np.uint8)
  window[...] = OUTSIDE
  shown = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
  y, x = max(-top, 0), max(-left, 0)
  window[y : y + shown.shape[0], x : x + shown.shape[1]] = shown
  return window


def _whole(sample: Sample, value: float) -> int:
  if abs(value - round(value)) > 1e-3:
    raise ValueError(
      f"image {sample.image_id}: affine {sample.affine.tolist()} does not "
      "place the image on whole pixels; compose it from data.transforms."
    )
  return round(value)


def render_sample(sample: Sample, *, interpolation: str) -> Sample:
  """Returns a sample rendered in its network frame, as a new original.

  A pixel belongs to a mask that covers at least half of it. Invisible instances
  are left out.

  Args:
    sample: Transformed sample; see `render_image`.
    interpolation: As for `render_image`.

  Returns:
    The sample with an identity affine: image [H', W', 3] uint8 of the
    valid frame, masks as CroppedMasks, boxes and areas in network pixels.
  """
  size = sample.image_size
  axes = _, y, x = split_axes(sample)
  y_cells = locate_cells(y, size[0], 1, "majority")
  x_cells = locate_cells(x, size[1], 1, "majority")
  annotated = _boxes_in_frame(sample)
  kept, corners, crops, boxes, areas = [], [], [], [], []
  for index in np.flatnonzero(reaches_frame(sample, y, x)):
    visible = visible_part(sample, axes, index)
    if visible is None:
      continue
    rows, columns, crop = fill_cells(visible, y_cells, x_cells, 1, "majority")
    if not crop.any():
      continue
    kept.append(index)
    corners.append((rows.start, columns.start))
    crops.append(crop)
    box = annotated[index]
    boxes.append(visible.box_xyxy if box is None else box)
    areas.append(visible.area)
  return dataclasses.replace(
    sample,
    image=render_image(sample, image_size=size, interpolation=interpolation),
    masks=CroppedMasks(size=size, corners=corners, crops=crops),
    labels=sample.labels[kept],
    areas=np.array(areas, np.float64),
    boxes_xyxy=np.array(boxes, np.float64).reshape(-1, 4),
    is_crowd=sample.is_crowd[kept],
    annotation_ids=sample.annotation_ids[kept],
    original_size=size,
    affine=np.eye(2, 3),
    stuff=None if sample.stuff is None else render_stuff(sample, size, 1),
  )


def make_example(
  sample: Sample,
  *,
  image_size: tuple[int, int],
  mask_frame: ImageFrame | BoxFrame,
  max_instances: int,
  min_mask_area: float,
  interpolation: str = "bilinear",
  max_crowds: int = 0,
) -> dict[str, Any]:
  """Returns one row of a Batch, made from a transformed sample.

  Crowds, invisible instances and those with a visible area below
  `min_mask_area` are left out. The rest keep their order; instances beyond
  `max_instances` are dropped and counted.

  Args:
    sample: Transformed sample.
    image_size: (height, width) of the padded network input, in pixels.
    mask_frame: Where and how masks are drawn.
    max_instances: Capacity N.
    min_mask_area: Smallest visible area, in network pixels.
    interpolation: As for `render_image`.
    max_crowds: Visible boxes of crowds to keep, the first ones; the others are
      dropped and counted. 0: no such fields.

  Returns:
    The fields of `types.Batch`, without the batch axis.

  Raises:
    ValueError: If masks of `image_size` cannot be made, see
      `ImageFrame.empty`.
  """
  masks = mask_frame.empty(max_instances, image_size)
  example = dict(
    image=render_image(
      sample, image_size=image_size, interpolation=interpolation
    ),
    image_size=np.array(sample.image_size, np.int32),
    image_valid=np.array(not sample.is_corrupt),
    centers=np.zeros((max_instances, 2), np.float32),
    boxes_xyxy=np.zeros((max_instances, 4), np.float32),
    labels=np.zeros(max_instances, np.int32),
    valid=np.zeros(max_instances, bool),
    masks=masks,
    num_dropped=np.array(0, np.int32),
  )
  if sample.stuff is not None:
    size = tuple(side // STUFF_STRIDE for side in image_size)
    example["semantic"] = render_stuff(sample, size, STUFF_STRIDE)
  if max_crowds:
    boxes = _crowd_boxes(sample)
    example["crowd_boxes_xyxy"] = np.zeros((max_crowds, 4), np.float32)
    example["crowd_boxes_xyxy"][: len(boxes)] = boxes[:max_crowds]
    number = max(len(boxes) - max_crowds, 0)
    example["num_crowds_dropped"] = np.array(number, np.int32)
  num_instances = 0
  axes = _, y, x = split_axes(sample)
  draw = mask_frame.start(y, x, image_size)
  boxes = _boxes_in_frame(sample)
  for index in np.flatnonzero(~sample.is_crowd & reaches_frame(sample, y, x)):
    visible = visible_part(sample, axes, index)
    if visible is None or visible.area < min_mask_area:
      continue
    if num_instances == max_instances:
      example["num_dropped"] += 1
      continue
    box = boxes[index]
    if box is None:
      box = visible.box_xyxy
    draw(visible, box, masks.data[num_instances])
    example["boxes_xyxy"][num_instances] = box
    example["centers"][num_instances] = visible.center
    example["labels"][num_instances] = sample.labels[index]
    example["valid"][num_instances] = True
    num_instances += 1
  return example


def _crowd_boxes(sample: Sample) -> np.ndarray:
  """Returns the visible boxes of crowds, clipped to the frame. [number, 4]."""
  height, width = sample.image_size
  boxes = boxes_in_frame(sample)[sample.is_crowd]
  boxes = np.clip(boxes, 0, [width, height] * 2)
  return boxes[(boxes[:, :2] < boxes[:, 2:]).all(axis=1)]


def render_stuff(
  sample: Sample, size: tuple[int, int], stride: int
) -> np.ndarray:
  """Returns the map of stuff in the network frame, nearest pixels.

  Args:
    sample: Transformed sample that has a map.
    size: (height, width) of the result.
    stride: Network pixels per cell; a cell reads its first pixel, as published.

  Returns:
    NO_STUFF beyond the image. [*size] uint8.
  """
  is_transposed, *axes = split_axes(sample)
  values = sample.stuff.T if is_transposed else sample.stuff
  canvas = np.full(size, NO_STUFF, np.uint8)
  places = []
  for axis, number in zip(axes, size, strict=True):
    at = np.arange(min(number, -(-axis.extent // stride))) * stride + 0.5
    at = np.floor(axis.to_original(at)).astype(int)
    places.append(np.clip(at, 0, axis.length - 1))
  rows, columns = places
  canvas[: len(rows), : len(columns)] = values[rows[:, None], columns]
  return canvas


def reaches_frame(sample: Sample, y: Axis, x: Axis) -> np.ndarray:
  """Returns which masks may be visible, without decoding them.

  Args:
    sample: Transformed sample.
    y: Its network y axis, from `split_axes`.
    x: Its network x axis.

  Returns:
    False for invisible masks. [N] bool.
  """
  if not isinstance(sample.masks, RleMasks):
    return np.ones(len(sample.masks), bool)
  boxes = sample.masks.boxes_xyxy()
  is_transposed, *_ = split_axes(sample)
  if is_transposed:
    boxes = boxes[:, [1, 0, 3, 2]]
  low, high = boxes[:, :2], boxes[:, 2:]
  start = np.array([x.visible.start, y.visible.start])
  stop = np.array([x.visible.stop, y.visible.stop])
  return ((low < stop) & (high > start)).all(axis=1)


def visible_part(
  sample: Sample, axes: tuple[bool, Axis, Axis], index: int
) -> Visible | None:
  """Returns the visible part of a mask, None if there is none.

  Args:
    sample: Transformed sample.
    axes: Its `split_axes`.
    index: Which mask. Of encoded masks only the visible part is decoded.
  """
  is_transposed, y, x = axes
  masks, corner = sample.masks, (0, 0)
  if isinstance(masks, RleMasks):
    left, top, right, bottom = masks.boxes_xyxy()[index].astype(int)
    rows, columns = (x, y) if is_transposed else (y, x)
    rows, columns = (
      slice(max(axis.visible.start, low), min(axis.visible.stop, high))
      for axis, low, high in ((rows, top, bottom), (columns, left, right))
    )
    if rows.start >= rows.stop or columns.start >= columns.stop:
      return None
    mask, corner = (
      masks.window(index, rows, columns),
      (rows.start, columns.start),
    )
  else:
    mask = masks[index]
  mask = mask.view(np.uint8)
  if is_transposed:
    mask, corner = mask.T, corner[::-1]
  return find_visible(mask, y, x, corner)


def _boxes_in_frame(sample: Sample) -> list[np.ndarray | None]:
  """Returns the annotated boxes in the frame; None for one that is cut off.

  In a crop, an annotated box does not bound the visible part of an object.
  Without a crop it is kept, clipped to the image, as in the published recipe.
  """
  height, width = sample.image_size
  corners = boxes_in_frame(sample).reshape(-1, 2, 2)
  limit = np.array([width, height])
  frame = np.array([[0.0, 0.0], sample.original_size[::-1]])
  frame = np.sort(frame @ sample.affine[:, :2].T + sample.affine[:, 2], axis=0)
  is_cropped = (frame[0] < -_TOLERANCE) | (frame[1] > limit + _TOLERANCE)
  is_cut = (corners[:, 0] < -_TOLERANCE) | (corners[:, 1] > limit + _TOLERANCE)
  is_cut = (is_cut & is_cropped).any(axis=-1)
  boxes = np.clip(corners, 0, limit).reshape(-1, 4)
  return [None if cut else box for box, cut in zip(boxes, is_cut, strict=True)]
