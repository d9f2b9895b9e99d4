"""Pictures of instances: soft fills, contours and labels on the image."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
import supervision as sv
from PIL import Image, ImageDraw, ImageFont

from solo_jax import types
from solo_jax.errors import UserError
from solo_jax.visualization_labels import draw_labels, text_size

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
UNMATCHED = sv.Color.from_hex(
  "#d8b4b8"
)  # for detections without an object, greyish red
SHOWN = ("contour", "fill", "boxes", "labels")
COLORS = ("instance", "class")
MIN_LONG_SIDE = 512  # smaller images are enlarged by a whole factor
FILL_OPACITY = 0.4
GAP = 8  # pixels between and around panels
BACKGROUND = (24, 26, 31)
MATCH_IOU = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Look:
  """The drawn parts of an instance, and their colours.

  Attributes:
    show: Names from SHOWN.
    colors: Name from COLORS: one colour per instance or track, or per class.
  """

  show: Sequence[str] = ("contour", "fill", "labels")
  colors: str = "instance"

  def __post_init__(self):
    """Raises a UserError if a name is unknown."""
    unknown = sorted(set(self.show) - set(SHOWN))
    if unknown:
      raise UserError(
        f"--show: unknown {', '.join(unknown)}; choose from {', '.join(SHOWN)}"
      )
    if self.colors not in COLORS:
      raise UserError(
        f"--colors={self.colors}: choose from {', '.join(COLORS)}"
      )


def draw_instances(
  image: np.ndarray,
  instances: types.Instances,
  class_names: Sequence[str],
  *,
  show_scores: bool = True,
  tracks: Sequence[int] | None = None,
  colors: Sequence[int] | None = None,
  look: Look = Look(),  # noqa: B008, frozen
) -> np.ndarray:
  """Returns the image with its instances drawn on it.

  Small images are enlarged so that labels can be read, and edges of masks are
  smoothed. Labels are placed on their object if there is room. They never
  overlap: a label without free space next to those of higher scores is left
  out.

  Args:
    image: RGB. [H0, W0, 3] uint8.
    instances: Instances at the size of the image, by decreasing score.
    class_names: Name of each label.
    show_scores: False for ground truth, which has none.
    tracks: Number of each instance in a video, shown before its class.
    colors: Colour of each instance in the palette, -1 for UNMATCHED, instead of
      that of `look`. See `match`.
    look: What is drawn.

  Returns:
    RGB picture, f = 1, 2, ... times as large. [f H0, f W0, 3] uint8.
  """
  factor = max(1, round(MIN_LONG_SIDE / max(image.shape[:2])))
  picture = enlarge(image, factor)
  # Supervision and OpenCV draw in BGR.
  picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
  is_visible = instances.masks.any((1, 2))
  boxes_xyxy = instances.tight_boxes_xyxy[is_visible] * factor
  masks = enlarge_masks(instances.masks[is_visible], factor)
  labels = instances.labels[is_visible]
  texts = [class_names[label] for label in labels]
  if tracks is not None:
    tracks = np.asarray(tracks, int)[is_visible]
    texts = [f"{i} {text}" for i, text in zip(tracks, texts, strict=True)]
  if colors is not None:
    colors = np.asarray(colors, int)[is_visible]
  elif look.colors == "class":
    colors = labels
  else:
    colors = np.arange(len(masks)) if tracks is None else tracks
  if show_scores:
    scores = instances.scores[is_visible]
    texts = [f"{text} {x:.2f}" for text, x in zip(texts, scores, strict=True)]
  palette = [color_of(index) for index in colors]
  if "fill" in look.show:
    _draw_fills(picture, masks, boxes_xyxy, palette)
  if "contour" in look.show:
    _draw_contours(picture, masks, palette)
  if "boxes" in look.show:
    _draw_boxes(picture, boxes_xyxy, palette)
  picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
  if "labels" in look.show:
    picture = draw_labels(picture, texts, boxes_xyxy, masks, palette)
  return picture


def match(predicted: types.Instances, truth: types.Instances) -> np.ndarray:
  """Returns the object that each detection covers, whatever its class.

  Detections take, by decreasing score, the free object with the highest mask
  IoU.

  Args:
    predicted: Detections at the size of the image, by decreasing score, M.
    truth: Objects at the same size, N.

  Returns:
    Row of the object, -1 if no free one has an IoU of MATCH_IOU. [M] int.
  """
  rows = np.full(len(predicted), -1)
  if not len(predicted) or not len(truth):
    return rows
  found, objects = (
    x.masks.reshape(len(x), -1).astype(np.float32) for x in (predicted, truth)
  )
  shared = found @ objects.T
  union = found.sum(1)[:, None] + objects.sum(1) - shared
  overlaps = shared / np.maximum(union, 1)
  for i in range(len(rows)):
    best = overlaps[i].argmax()
    if overlaps[i, best] >= MATCH_IOU:
      rows[i] = best
      overlaps[:, best] = -1
  return rows


def color_of(index: int) -> sv.Color:
  """Returns a colour of the palette, UNMATCHED for -1."""
  return PALETTE.by_idx(int(index)) if index >= 0 else UNMATCHED


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
  predictions = draw_instances(
    image, predicted, class_names, colors=match(predicted, truth)
  )
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
  font = ImageFont.load_default(size=text_size(height, width) + 3)
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


def enlarge_masks(masks: np.ndarray, factor: int) -> np.ndarray:
  """Returns masks enlarged by a whole factor, with smooth edges.

  Args:
    masks: [M, H, W] bool.
    factor: 1 leaves them as they are.

  Returns:
    [M, factor H, factor W] bool. Parts too thin to be smoothed keep their
    steps.
  """
  if factor == 1 or not len(masks):
    return masks
  size = masks.shape[2] * factor, masks.shape[1] * factor
  # A Gaussian removes the steps; up to 0.74 pixels, one-pixel lines survive.
  sigma = 0.65 * factor
  return np.stack(
    [_enlarge_mask(mask.astype(np.uint8) * 255, size, sigma) for mask in masks]
  )


def _enlarge_mask(mask, size, sigma):
  plain = cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR)
  border = cv2.BORDER_REPLICATE
  smooth = cv2.GaussianBlur(plain, (0, 0), sigma, borderType=border) > 127
  return smooth if smooth.any() else plain > 127


def _draw_fills(
  picture: np.ndarray,
  masks: np.ndarray,
  boxes_xyxy: np.ndarray,
  palette: Sequence[sv.Color],
) -> None:
  """Tints the masks, smaller ones over larger ones. Changes `picture`."""
  if not len(masks):
    return
  detections = sv.Detections(
    xyxy=boxes_xyxy, mask=masks, class_id=np.arange(len(masks))
  )
  sv.MaskAnnotator(
    sv.ColorPalette(palette), FILL_OPACITY, sv.ColorLookup.CLASS
  ).annotate(picture, detections)


def _draw_contours(
  picture: np.ndarray, masks: np.ndarray, palette: Sequence[sv.Color]
) -> None:
  """Outlines the masks over a thin dark halo. Changes `picture`."""
  thickness = _line_width(picture) + 1
  for mask, color in zip(masks, palette, strict=True):
    contours, _ = cv2.findContours(
      mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    color = color.as_bgr()
    dark = tuple(c // 4 for c in color)
    for line, width in ((dark, thickness + 2), (color, thickness)):
      cv2.drawContours(picture, contours, -1, line, width, cv2.LINE_AA)


def draw_outlines(
  picture: np.ndarray, masks: np.ndarray, color: tuple[int, int, int]
) -> np.ndarray:
  """Returns the picture with masks outlined by a thick line.

  Args:
    picture: RGB. [H, W, 3] uint8.
    masks: [M, H, W] bool.
    color: RGB.

  Returns:
    RGB picture. [H, W, 3] uint8.
  """
  picture = picture.copy()
  for mask in masks:
    contours, _ = cv2.findContours(
      mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(picture, contours, -1, color, 3)
  return picture


def _draw_boxes(
  picture: np.ndarray, boxes_xyxy: np.ndarray, palette: Sequence[sv.Color]
) -> None:
  """Frames the masks. Changes `picture`."""
  thickness = _line_width(picture)
  for box, color in zip(boxes_xyxy, palette, strict=True):
    left, top, right, bottom = box.round().astype(int).tolist()
    corners = (left, top), (right - 1, bottom - 1)
    cv2.rectangle(picture, *corners, color.as_bgr(), thickness)


def _line_width(picture: np.ndarray) -> int:
  return 1 if max(picture.shape[:2]) < 900 else 2
