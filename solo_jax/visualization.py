"""Pictures of instances: soft fills, contours and labels on the image."""

from collections.abc import Sequence

import cv2
import numpy as np
import supervision as sv
from PIL import Image, ImageDraw, ImageFont

from solo_jax import types

# Bright, and far apart in hue from one entry to the next.
PALETTE = sv.ColorPalette.from_hex(
  [
    "#ff4d6d",
    "#2ec4ff",
    "#ffd23f",
    "#3ddc84",
    "#b388ff",
    "#ff8c42",
    "#00e5c7",
    "#ff6ad5",
    "#a4e02f",
    "#5c7cfa",
    "#ffa8a8",
    "#c9a227",
    "#7be0ff",
    "#f06595",
    "#e0b0ff",
    "#19b5a5",
  ]
)
MIN_LONG_SIDE = 512  # smaller images are enlarged by a whole factor
FILL_OPACITY = 0.4
# In a picture of more instances than this, small ones get no label.
CROWDED = 25
GAP = 8  # pixels between and around panels
BACKGROUND = (24, 26, 31)


def draw_instances(
  image: np.ndarray,
  instances: types.Instances,
  class_names: Sequence[str],
  *,
  show_scores: bool = True,
  tracks: Sequence[int] | None = None,
) -> np.ndarray:
  """Returns the image with its instances drawn on it.

  Each instance, or each track, has its own colour. Small images are enlarged so
  that labels are readable. Labels never overlap: a label without free space
  next to those of higher scores is left out.

  Args:
    image: RGB. [H0, W0, 3] uint8.
    instances: Instances at the size of the image, by falling score.
    class_names: Name of each label.
    show_scores: False for ground truth, which has none.
    tracks: Number of each instance in a video, shown before its class.

  Returns:
    RGB picture, f = 1, 2, ... times as large. [f H0, f W0, 3] uint8.
  """
  factor = max(1, round(MIN_LONG_SIDE / max(image.shape[:2])))
  picture = enlarge(image, factor)
  # Supervision and OpenCV draw in BGR.
  picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
  is_visible = instances.masks.any((1, 2))
  boxes_xyxy = instances.tight_boxes_xyxy[is_visible] * factor
  masks = _enlarge_masks(instances.masks[is_visible], factor)
  colors = np.arange(len(masks))
  texts = [class_names[label] for label in instances.labels[is_visible]]
  if tracks is not None:
    colors = np.asarray(tracks, int)[is_visible]
    texts = [f"{i} {text}" for i, text in zip(colors, texts, strict=True)]
  if show_scores:
    scores = instances.scores[is_visible]
    texts = [f"{text} {x:.2f}" for text, x in zip(texts, scores, strict=True)]
  _draw_fills(picture, masks, boxes_xyxy, colors)
  _draw_contours(picture, masks, colors)
  return _draw_labels(
    cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), texts, boxes_xyxy, colors
  )


def draw_comparison(
  image: np.ndarray,
  predicted: types.Instances,
  truth: types.Instances,
  class_names: Sequence[str],
) -> np.ndarray:
  """Returns image, prediction and truth, side by side.

  Args:
    image: RGB. [H0, W0, 3] uint8.
    predicted: Detections at the size of the image.
    truth: Annotations at the size of the image; scores are not shown.
    class_names: Name of each label.

  Returns:
    RGB picture of three titled panels. [height, width, 3] uint8.
  """
  predictions = draw_instances(image, predicted, class_names)
  factor = predictions.shape[0] // image.shape[0]
  return draw_panels(
    {
      "image": enlarge(image, factor),
      f"predicted ({len(predicted)})": predictions,
      f"truth ({len(truth)})": draw_instances(
        image, truth, class_names, show_scores=False
      ),
    }
  )


def draw_views(image: np.ndarray, views: dict[str, np.ndarray]) -> np.ndarray:
  """Returns the image and pictures of the network's maps, side by side.

  Args:
    image: RGB. [H0, W0, 3] uint8.
    views: RGB pictures at the image's size by title. [H0, W0, 3] uint8.

  Returns:
    RGB picture of titled panels. [height, width, 3] uint8.
  """
  factor = max(1, round(MIN_LONG_SIDE / max(image.shape[:2])))
  panels = {"image": image} | views
  return draw_panels({k: enlarge(view, factor) for k, view in panels.items()})


def draw_panels(panels: dict[str, np.ndarray]) -> np.ndarray:
  """Returns pictures side by side, each under its title.

  Args:
    panels: RGB pictures of one size by title. [H, W, 3] uint8.

  Returns:
    RGB picture. [height, width, 3] uint8.
  """
  height, width = next(iter(panels.values())).shape[:2]
  font = ImageFont.load_default(size=_text_size(height, width) + 3)
  top = 2 * font.size + GAP // 2
  canvas = Image.new(
    "RGB",
    (len(panels) * (width + GAP) + GAP, top + height + GAP),
    BACKGROUND,
  )
  draw = ImageDraw.Draw(canvas)
  for i, (title, panel) in enumerate(panels.items()):
    left = GAP + i * (width + GAP)
    canvas.paste(Image.fromarray(panel), (left, top))
    draw.text(
      (left + width / 2, top / 2), title, "white", font=font, anchor="mm"
    )
  return np.array(canvas)


def stack_rows(rows: Sequence[np.ndarray]) -> np.ndarray:
  """Returns pictures stacked vertically, narrower ones padded at the right.

  Args:
    rows: RGB pictures. [H, W, 3] uint8 each.

  Returns:
    RGB picture. [sum of H, largest W, 3] uint8.
  """
  width = max(row.shape[1] for row in rows)
  return np.concatenate(
    [
      cv2.copyMakeBorder(
        row,
        0,
        0,
        0,
        width - row.shape[1],
        cv2.BORDER_CONSTANT,
        value=BACKGROUND,
      )
      for row in rows
    ]
  )


def enlarge(image: np.ndarray, factor: int) -> np.ndarray:
  """Returns an image enlarged by a whole factor, smoothly.

  Args:
    image: [H, W, 3] uint8.
    factor: 1 leaves it as it is.

  Returns:
    [factor H, factor W, 3] uint8.
  """
  if factor == 1:
    return image
  return cv2.resize(
    image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC
  )


def _enlarge_masks(masks: np.ndarray, factor: int) -> np.ndarray:
  """Returns enlarged [M, H, W] bool masks with smooth edges."""
  if factor == 1 or not len(masks):
    return masks
  return np.stack(
    [
      cv2.resize(
        mask.astype(np.uint8) * 255,
        None,
        fx=factor,
        fy=factor,
        interpolation=cv2.INTER_LINEAR,
      )
      > 127
      for mask in masks
    ]
  )


def _draw_fills(
  picture: np.ndarray,
  masks: np.ndarray,
  boxes_xyxy: np.ndarray,
  colors: np.ndarray,
) -> None:
  """Tints the masks, smaller ones over larger ones. Changes `picture`."""
  detections = sv.Detections(xyxy=boxes_xyxy, mask=masks, class_id=colors)
  sv.MaskAnnotator(PALETTE, FILL_OPACITY, sv.ColorLookup.CLASS).annotate(
    picture, detections
  )


def _draw_contours(
  picture: np.ndarray, masks: np.ndarray, colors: np.ndarray
) -> None:
  """Outlines the masks over a thin dark halo. Changes `picture`."""
  thickness = 1 if max(picture.shape[:2]) < 900 else 2
  for mask, index in zip(masks, colors, strict=True):
    contours, _ = cv2.findContours(
      mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    color = PALETTE.by_idx(int(index)).as_bgr()
    dark = tuple(c // 4 for c in color)
    for line, width in ((dark, thickness + 2), (color, thickness)):
      cv2.drawContours(picture, contours, -1, line, width, cv2.LINE_AA)


def _draw_labels(
  picture: np.ndarray,
  texts: Sequence[str],
  boxes_xyxy: np.ndarray,
  colors: np.ndarray,
) -> np.ndarray:
  """Returns the RGB picture with a small label for each text."""
  height, width = picture.shape[:2]
  font = ImageFont.load_default(size=_text_size(height, width))
  canvas = Image.fromarray(picture)
  draw = ImageDraw.Draw(canvas)
  taken = np.zeros((0, 4))
  for text, box, index in zip(texts, boxes_xyxy, colors, strict=True):
    size = np.array([draw.textlength(text, font) + 8, font.size * 1.25 + 4])
    if len(texts) > CROWDED and size[0] > 1.5 * (box[2] - box[0]):
      continue
    sign = _free_place(box, size, taken, (width, height))
    if sign is None:
      continue
    taken = np.vstack([taken, sign])
    color = PALETTE.by_idx(int(index)).as_rgb()
    draw.rounded_rectangle(tuple(sign), radius=4, fill=color)
    is_bright = np.dot(color, (0.299, 0.587, 0.114)) > 120
    draw.text(
      ((sign[0] + sign[2]) / 2, (sign[1] + sign[3]) / 2),
      text,
      "black" if is_bright else "white",
      font=font,
      anchor="mm",
    )
  return np.array(canvas)


def _free_place(
  box: np.ndarray, size: np.ndarray, taken: np.ndarray, frame: tuple[int, int]
) -> np.ndarray | None:
  """Returns a free place next to `box` (x1, y1, x2, y2), or None."""
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
    overlaps = np.minimum(taken[:, 2:], place[2:]) - np.maximum(
      taken[:, :2], place[:2]
    )
    if not (overlaps > 0).all(1).any():
      return place
  return None


def _text_size(height: int, width: int) -> int:
  """Returns the letter height in pixels that suits a picture of this size."""
  return int(np.clip(max(height, width) / 52, 11, 40))
