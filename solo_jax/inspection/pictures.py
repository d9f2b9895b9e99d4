"""Pictures of the network's inputs and targets."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from solo_jax import types, visualization
from solo_jax.inference.instances import masks_to_original
from solo_jax.inspection.frames import (
  Frame,
  make_example,
  mask_weights,
  target_masks,
)
from solo_jax.inspection.lost_instances import judge_frame, make_judge, to_batch
from solo_jax.methods.interface import Method

LOST_COLOR, SIGN_COLOR = (255, 59, 48), (255, 244, 242)
SIGN_TEXT_COLOR = (120, 10, 5)
MAX_SIDE = 640  # pixels of a panel
MAX_SIGNS = 8  # more would hide the cells; the title has the numbers


def draw_frames(
  frames: Sequence[Frame],
  method: Method,
  class_names: Sequence[str],
  *,
  transforms: Mapping[str, Any],
  interpolation: str,
) -> np.ndarray:
  """Returns a picture of frames, one below the other.

  Each shows the network's input, the mask targets at their resolution, and the
  method's own targets, if it draws them: the cells of every instance in its
  colour, or the groups of perfect tags. Red outlines mark lost instances.

  Args:
    frames: At least one.
    method: The method of the configuration.
    class_names: Name of each label.
    transforms: The config's section of this name.
    interpolation: See `batching.render_image`.

  Returns:
    RGB picture. [height, width, 3] uint8.
  """
  judge = make_judge(method)
  draw = method.target_views
  draw = (lambda *_: {}) if draw is None else jax.jit(draw)
  rows = []
  for frame in frames:
    example = make_example(frame, transforms, interpolation=interpolation)
    fates = judge_frame(
      frame, example, judge, min_mask_area=transforms["min_mask_area"]
    )
    image = example["image"]
    targets = _targets(example)
    truth = visualization.draw_instances(
      image, targets, class_names, show_scores=False
    )
    factor = truth.shape[0] // image.shape[0]
    views = draw(to_batch(example), _colors(example["valid"]))
    panels = {
      f"network input {image.shape[0]} x {image.shape[1]}": (
        visualization.enlarge(image, factor)
      ),
      f"mask targets ({len(targets)})": truth,
      **{
        title: _enlarge(np.asarray(view[0]), truth.shape[0])
        for title, view in views.items()
      },
    }
    *others, last = panels  # which shows the lost instances
    is_lost = fates.rows != ""
    picture = visualization.draw_outlines(
      panels[last],
      visualization.enlarge_masks(targets.masks[is_lost], factor),
      LOST_COLOR,
    )
    picture = _draw_signs(
      picture, fates.boxes_xyxy[is_lost] * factor, fates.rows[is_lost]
    )
    lost = [f"{number} {way}" for way, number in fates.lost.items() if number]
    title = f"{last}; lost: {', '.join(lost)}" if lost else last
    panels = {name: panels[name] for name in others} | {title: picture}
    panels = {k: _shrink(panel) for k, panel in panels.items()}
    rows.append(visualization.draw_panels(panels))
  return visualization.stack_rows(rows)


def _colors(valid):
  """Colours of instances by their number among valid ones. [N, 3] float32."""
  number = np.maximum(np.cumsum(valid) - 1, 0)
  colors = [visualization.PALETTE.by_idx(int(i)).as_rgb() for i in number]
  return np.array(colors, np.float32) / 255


def _enlarge(view, height):
  """Enlarges a picture [h, w, 3] of [0, 1] to a multiple of its height."""
  picture = np.uint8(255 * view + 0.5)
  return visualization.enlarge(picture, height // picture.shape[0])


def _targets(example):
  """Mask targets as Instances in the network's frame, without smoothing."""
  weights, size = mask_weights(example), example["image"].shape[:2]
  if isinstance(example["masks"], types.BoxMaskTargets):
    masks, _ = masks_to_original(
      target_masks(example),
      padded_size=size,
      image_size=size,
      original_size=size,
      threshold=0.5,
    )
  else:
    stride = size[0] // weights.shape[1]
    masks = (weights >= 0.5).repeat(stride, 1).repeat(stride, 2)
  valid = example["valid"]
  return types.Instances(
    masks=masks,
    scores=np.ones(len(masks), np.float32),
    labels=example["labels"][valid],
    boxes_xyxy=example["boxes_xyxy"][valid],
  )


def _draw_signs(picture, boxes_xyxy, rows):
  """Frames lost instances and adds the reason if there is room."""
  canvas = Image.fromarray(picture)
  draw = ImageDraw.Draw(canvas)
  font = ImageFont.load_default(size=max(12, max(picture.shape[:2]) // 48))
  if len(rows) > MAX_SIGNS:
    return picture
  taken = []
  for box, way in zip(boxes_xyxy, rows, strict=True):
    size = draw.textlength(way, font) + 8, font.size + 6
    sign = _free_place(box, size, taken, canvas.size)
    if sign is None:
      continue
    taken.append(sign)
    draw.rectangle(sign, fill=SIGN_COLOR, outline=LOST_COLOR)
    draw.text(
      ((sign[0] + sign[2]) / 2, (sign[1] + sign[3]) / 2),
      way,
      SIGN_TEXT_COLOR,
      font=font,
      anchor="mm",
    )
  return np.array(canvas)


def _free_place(box, size, taken, frame):
  """Finds a place (x1, y1, x2, y2) below, above or next to a box, or None."""
  left, top, right, bottom = box
  width, height = size
  for x, y in (
    (left, bottom + 2),
    (left, top - height - 2),
    (right + 3, top),
    (left - width - 3, top),
    (left, bottom + height + 4),
    (left, top - 2 * height - 4),
  ):
    x = min(max(x, 0), frame[0] - width - 1)
    place = x, y, x + width, y + height
    is_inside = y >= 0 and place[3] < frame[1]
    if is_inside and not any(_overlap(place, other) for other in taken):
      return place
  return None


def _overlap(a, b):
  return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _shrink(panel: np.ndarray) -> np.ndarray:
  height, width = panel.shape[:2]
  share = MAX_SIDE / max(height, width)
  if share >= 1:
    return panel
  size = round(width * share), round(height * share)
  return np.array(Image.fromarray(panel).resize(size, Image.Resampling.BOX))
