"""Labels with the names of instances, on their objects or next to them."""

from collections.abc import Sequence

import cv2
import numpy as np
import supervision as sv
from PIL import Image, ImageDraw, ImageFont

# In a picture of more instances than this, small ones get no label.
CROWDED = 25
# Share of a label that must be on its object, and how much larger the object
# must be, so that a label does not hide its object.
INSIDE, ROOM = 0.95, 3


def draw_labels(
  picture: np.ndarray,
  texts: Sequence[str],
  boxes_xyxy: np.ndarray,
  masks: np.ndarray,
  palette: Sequence[sv.Color],
) -> np.ndarray:
  """Returns the picture with a small label for each text.

  A label is placed on its object if there is room, else next to it, with a line
  between the two. A label without free space is left out.

  Args:
    picture: RGB. [H, W, 3] uint8.
    texts: One per instance, the most important first, M.
    boxes_xyxy: Boxes around the masks. [M, 4].
    masks: Each with at least one pixel. [M, H, W] bool.
    palette: Colour of each instance, M.

  Returns:
    RGB picture with the labels. [H, W, 3] uint8.
  """
  height, width = picture.shape[:2]
  font = ImageFont.load_default(size=text_size(height, width))
  canvas = Image.fromarray(picture)
  draw = ImageDraw.Draw(canvas)
  taken = np.zeros((0, 4))
  owner = find_owners(masks, (height, width))
  for i, (text, box, color) in enumerate(
    zip(texts, boxes_xyxy, palette, strict=True)
  ):
    # Its visible part, or the whole mask if smaller ones hide all of it.
    mask = owner == i + 1
    mask = mask if mask.any() else masks[i]
    size = np.array([draw.textlength(text, font) + 8, font.size * 1.25 + 4])
    if len(texts) > CROWDED and size[0] > 1.5 * (box[2] - box[0]):
      continue
    point = deepest_point(mask, box)
    sign = _place_on(mask, point, size)
    if sign is None or _is_taken(sign, taken):
      sign = free_place(box, size, taken, (width, height))
    if sign is None:
      continue
    taken = np.vstack([taken, sign])
    color = color.as_rgb()
    middle = (sign[0] + sign[2]) / 2, (sign[1] + sign[3]) / 2
    if not mask[int(middle[1]), int(middle[0])]:
      draw.line([*middle, *point], fill=color, width=1)
    draw.rounded_rectangle(tuple(sign), radius=4, fill=color)
    is_bright = np.dot(color, (0.299, 0.587, 0.114)) > 120
    draw.text(
      middle,
      text,
      "black" if is_bright else "white",
      font=font,
      anchor="mm",
    )
  return np.array(canvas)


def find_owners(
  masks: Sequence[np.ndarray], size: tuple[int, int]
) -> np.ndarray:
  """Returns the visible mask of each pixel, smaller masks in front.

  Args:
    masks: [H, W] bool each, M.
    size: (H, W).

  Returns:
    Position of the mask plus 1; 0 where there is none. [H, W] int32.
  """
  owner = np.zeros(size, np.int32)
  for i in np.argsort([-mask.sum() for mask in masks], kind="stable"):
    owner[masks[i]] = i + 1
  return owner


def deepest_point(mask: np.ndarray, box: np.ndarray) -> tuple[int, int]:
  """Returns the pixel of a mask that is farthest from its edge.

  Args:
    mask: With at least one pixel. [H, W] bool.
    box: (x1, y1, x2, y2) around it, in whole pixels.

  Returns:
    (x, y).
  """
  left, top, right, bottom = box.round().astype(int)
  crop = np.pad(mask[top:bottom, left:right], 1).astype(np.uint8)
  depth = cv2.distanceTransform(crop, cv2.DIST_L2, 3)
  y, x = np.unravel_index(depth.argmax(), depth.shape)
  return int(x) - 1 + int(left), int(y) - 1 + int(top)


def _place_on(
  mask: np.ndarray, point: tuple[int, int], size: np.ndarray
) -> np.ndarray | None:
  """Returns the place of a label inside its mask, None without room."""
  corner = np.array(point) - size / 2
  place = np.concatenate([corner, corner + size])
  left, top, right, bottom = place.round().astype(int)
  if left < 0 or top < 0 or right >= mask.shape[1] or bottom >= mask.shape[0]:
    return None
  is_inside = mask[top:bottom, left:right].mean() >= INSIDE
  return place if is_inside and mask.sum() > ROOM * np.prod(size) else None


def _is_taken(place: np.ndarray, taken: np.ndarray) -> bool:
  overlaps = np.minimum(taken[:, 2:], place[2:]) - np.maximum(
    taken[:, :2], place[:2]
  )
  return bool((overlaps > 0).all(1).any())


def free_place(
  box: np.ndarray, size: np.ndarray, taken: np.ndarray, frame: tuple[int, int]
) -> np.ndarray | None:
  """Returns a free place next to `box` (x1, y1, x2, y2), or None."""
  if np.greater(size, frame).any():  # of one row of pixels, for example
    return None
  left, top, right, bottom = box
  middle = (left + right - size[0]) / 2
  for corner in (
    (left, top - size[1] - 2),
    (left + 2, top + 2),
    (middle, (top + bottom - size[1]) / 2),
    (left, bottom + 2),
    (right - size[0], bottom - size[1] - 2),
  ):
    corner = np.clip(corner, 1, np.maximum(np.subtract(frame, size) - 2, 1))
    place = np.concatenate([corner, corner + size])
    if not _is_taken(place, taken):
      return place
  return None


def text_size(height: int, width: int) -> int:
  """Returns the letter height in pixels that suits a picture of this size."""
  return int(np.clip(max(height, width) / 52, 11, 40))
