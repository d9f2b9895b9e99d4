r"""Draws how methods turn an image into instances, for docs/methods.md.

python -m solo_jax.prepare --dataset=shapes --data_dir=data
python docs/method_pictures.py docs/images

Panels are drawn from the annotations of a scene with the methods' own code for
targets; nothing is trained. Pictures of trained networks are drawn elsewhere:
docs/dynamic_masks.py, docs/region_stages.py, docs/query_stages.py and the
notebooks in colabs/.
"""

import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import PIL.Image
from PIL import ImageDraw

from solo_jax import visualization
from solo_jax.building import build_method
from solo_jax.data.records import open_records, read_sample
from solo_jax.inspection.frames import (
  inference_frames,
  make_example,
  mask_weights,
)
from solo_jax.inspection.lost_instances import to_batch
from solo_jax.methods.regions.box_coding import pairwise_iou
from solo_jax.methods.regions.mask_targets import MaskTargets, mask_targets
from solo_jax.methods.yolact.priors import make_priors
from solo_jax.methods.yolact.targets import assign
from solo_jax.weights import load_config

SCENE, HTC_SCENE = 3, 5  # positions in the evaluation split
SIDE, GAP = 320, 6
STAGE_IOUS = (0.5, 0.6, 0.7)
NUM_REGIONS = 24
YOLACT_STRIDES = (8, 16, 32, 64, 128)
SEMANTIC_STRIDE, MASK_CELLS = 8, 28
# How far corners of an object's first region are away from it, as shares of
# its sides, and what is left of that in each stage.
FIRST_REGION = np.array([-0.2, 0.1, 0.1, 0.25])
STAGE_SHARES = (1.0, 0.4, 0.1)
ARROW_WIDTH = 32


def make_scene(name: str, data_dir: str, scene: int = SCENE):
  """Returns the method of a config, and the scene as a batch of it."""
  config = load_config(name)
  sample = read_sample(open_records(data_dir, "shapes", "validation")[scene])
  (frame,) = inference_frames(sample, config.preprocessing.to_dict())
  example = make_example(
    frame,
    config.transforms.to_dict(),
    interpolation=config.preprocessing.interpolation,
  )
  return build_method(config), example, to_batch(example)


def find_colors(example) -> np.ndarray:
  """Returns a colour of each instance. [N, 3] uint8."""
  number = np.maximum(np.cumsum(example["valid"]) - 1, 0)
  return np.array(
    [visualization.PALETTE.by_idx(int(i)).as_rgb() for i in number], np.uint8
  )


def as_panel(picture: np.ndarray) -> np.ndarray:
  """Returns a picture [h, w, 3] scaled to SIDE x SIDE without smoothing."""
  picture = PIL.Image.fromarray(np.asarray(picture, np.uint8))
  return np.array(picture.resize((SIDE, SIDE), PIL.Image.Resampling.NEAREST))


def paint(image, masks, colors) -> np.ndarray:
  """Returns the image with masks over it. Masks are [n, h, w]."""
  picture = image.astype(np.float32)
  step = image.shape[0] // masks.shape[1] if len(masks) else 1
  for mask, color in zip(masks, colors, strict=True):
    mask = mask.repeat(step, 0).repeat(step, 1) >= 0.5
    picture[mask] = 0.35 * picture[mask] + 0.65 * color
  return as_panel(picture)


def draw_boxes(panel, boxes, colors, *, size, width=2) -> np.ndarray:
  """Returns a panel with the boxes of an image of `size` x `size` pixels."""
  canvas = PIL.Image.fromarray(panel)
  draw = ImageDraw.Draw(canvas)
  for box, color in zip(np.asarray(boxes) * SIDE / size, colors, strict=True):
    draw.rectangle(tuple(box), outline=tuple(color), width=width)
  return np.array(canvas)


def join(*panels) -> np.ndarray:
  """Returns panels in a row."""
  gap = np.full((SIDE, GAP, 3), 255, np.uint8)
  return np.concatenate([x for p in panels for x in (gap, p)][1:], axis=1)


def to_gray(mask) -> np.ndarray:
  """Returns a mask [h, w] as a grey picture."""
  return np.uint8(255 * np.repeat(mask[..., None], 3, axis=-1))


def draw_cells(method, batch, colors) -> np.ndarray:
  """Returns the cells of a grid method that are trained, in colours."""
  views = method.target_views(batch, jnp.asarray(colors, jnp.float32) / 255)
  return as_panel(255 * np.asarray(views["cells"][0]))


def draw_solo(data_dir: str) -> np.ndarray:
  """Cells, the channels of up to four objects, all masks."""
  method, example, batch = make_scene("solo_shapes.py", data_dir)
  colors, masks = find_colors(example), mask_weights(example)
  shown = colors[example["valid"]]
  order = np.argsort([-mask.sum() for mask in masks])[:4]
  tiles = [to_gray(masks[i] >= 0.5) for i in order]
  tiles += [np.zeros_like(tiles[0])] * (4 - len(tiles))
  for tile, i in zip(tiles, order, strict=False):
    tile[:2, :], tile[:, :2] = shown[i], shown[i]
  channels = np.concatenate(
    [np.concatenate(tiles[:2], 1), np.concatenate(tiles[2:], 1)]
  )
  return join(
    draw_cells(method, batch, colors),
    as_panel(channels),
    paint(example["image"], masks, shown),
  )


def draw_decoupled(data_dir: str) -> np.ndarray:
  """The maps of a column and of a row of cells, and their product."""
  _, example, batch = make_scene("decoupled_solo_shapes.py", data_dir)
  masks, grid = mask_weights(example) >= 0.5, 5
  centers = np.asarray(batch.centers[0]) * grid / example["image"].shape[0]
  cells = np.floor(centers[: len(masks)]).astype(int)
  # The cell whose column and row hold most other objects.
  shared = [np.sum(cells == cell) for cell in cells]
  chosen = int(np.argmax(shared))
  column, row = (
    masks[cells[:, axis] == cells[chosen, axis]].any(axis=0) for axis in (0, 1)
  )
  panels = []
  for axis, mask in enumerate((column, row)):
    panel = as_panel(to_gray(mask))
    low = cells[chosen, axis] * SIDE // grid
    band = [slice(None)] * 2
    band[1 - axis] = slice(low, low + SIDE // grid)
    panel[tuple(band)] = panel[tuple(band)] // 2 + np.array([60, 110, 20], "u1")
    panels.append(panel)
  return join(*panels, as_panel(to_gray(column & row)))


def draw_cascade(data_dir: str) -> np.ndarray:
  """Regions around objects, and those that each stage learns from."""
  _, example, batch = make_scene("mask_rcnn_shapes.py", data_dir)
  rng = np.random.default_rng(0)
  boxes = np.asarray(batch.boxes_xyxy[0])[example["valid"]]
  sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
  picks = rng.integers(len(boxes), size=NUM_REGIONS)
  regions = boxes[picks] + rng.normal(0, 0.13, (NUM_REGIONS, 4)) * sides[picks]
  overlap = np.asarray(pairwise_iou(regions, boxes)).max(axis=1)
  panels = []
  for threshold in STAGE_IOUS:
    is_used = overlap >= threshold
    colors = np.where(is_used[:, None], (255, 225, 0), (120, 120, 120))
    order = np.argsort(is_used, kind="stable")
    panels.append(
      draw_boxes(
        as_panel(example["image"]),
        regions[order],
        colors[order],
        size=example["image"].shape[0],
      )
    )
  return join(*panels)


def draw_htc(data_dir: str) -> np.ndarray:
  """Classes of pixels, and the masks that an object's three regions learn."""
  _, example, batch = make_scene("mask_rcnn_shapes.py", data_dir, HTC_SCENE)
  image, valid = example["image"], example["valid"]
  boxes = np.asarray(batch.boxes_xyxy[0])[valid]
  sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
  largest = int(np.argmax(sides[:, 0] * sides[:, 1]))
  box, sides = boxes[largest], sides[largest]
  mask = mask_weights(example)[largest]
  rule = MaskTargets(is_aligned=True, threshold=0.5)
  panels = [draw_classes(data_dir), None]
  for share in STAGE_SHARES:
    region = box + share * sides * FIRST_REGION
    target = mask_targets(
      np.float32(mask)[None],
      np.float32(box)[None],
      np.float32(region)[None],
      size=MASK_CELLS,
      rule=rule,
    )[0]
    panel = lay_mask(as_panel(image), target, region, size=image.shape[0])
    colors = ((255, 225, 0),)
    panels += [draw_boxes(panel, [region], colors, size=image.shape[0]), None]
  return np.concatenate(
    [draw_arrow() if panel is None else panel for panel in panels[:-1]], axis=1
  )


def draw_classes(data_dir: str) -> np.ndarray:
  """Returns the class of each pixel at the stride of HTC's branch."""
  _, example, _ = make_scene("solov2_shapes.py", data_dir, HTC_SCENE)
  masks = mask_weights(example) >= 0.5
  step = SEMANTIC_STRIDE * masks.shape[1] // example["image"].shape[0]
  classes = np.zeros(masks.shape[1:], int)
  labels = example["labels"][example["valid"]]
  for mask, label in zip(masks, labels, strict=True):
    classes[mask] = label + 1  # 0 is the background
  classes = classes[step // 2 :: step, step // 2 :: step]
  colors = [
    visualization.PALETTE.by_idx(i).as_rgb() for i in range(classes.max())
  ]
  return as_panel(np.array([(60, 60, 60), *colors])[classes])


def lay_mask(panel, target, region, *, size) -> np.ndarray:
  """Returns a panel with the cells [s, s] of a region of the image over it."""
  x1, y1, x2, y2 = np.asarray(region) * SIDE / size
  x, y = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
  column = np.floor((x - x1) / (x2 - x1) * len(target)).astype(int)
  row = np.floor((y - y1) / (y2 - y1) * len(target)).astype(int)
  inside = (np.minimum(row, column) >= 0) & (
    np.maximum(row, column) < len(target)
  )
  value = np.asarray(target)[np.where(inside, row, 0), column * inside]
  colour = np.where(value[..., None] > 0, (0, 160, 220), (30, 30, 30))
  mixed = 0.3 * panel + 0.7 * colour
  return np.uint8(np.where(inside[..., None], mixed, panel))


def draw_arrow() -> np.ndarray:
  """Returns an arrow to the right, as wide as a gap between panels."""
  canvas = PIL.Image.new("RGB", (ARROW_WIDTH, SIDE), (255, 255, 255))
  draw, middle = ImageDraw.Draw(canvas), SIDE // 2
  draw.line((4, middle, ARROW_WIDTH - 8, middle), (60, 60, 60), width=3)
  tip = ARROW_WIDTH - 4
  corners = (tip, middle), (tip - 9, middle - 7), (tip - 9, middle + 7)
  draw.polygon(corners, (60, 60, 60))
  return np.array(canvas)


def draw_yolact(data_dir: str) -> np.ndarray:
  """Prior boxes of each object, and masks cut to boxes."""
  method, example, batch = make_scene("yolact_shapes.py", data_dir)
  size, valid = example["image"].shape[0], example["valid"]
  sizes = [(size // stride, size // stride) for stride in YOLACT_STRIDES]
  priors = make_priors(method.network.priors, sizes, (size, size))
  boxes = batch.boxes_xyxy[0]
  owner, kind = assign(pairwise_iou(boxes, priors), batch.valid[0], "greedy")
  colors, is_used = find_colors(example), np.asarray(kind) == 1
  panel = as_panel(example["image"])
  chosen = colors[np.asarray(owner)[is_used]]
  positives = draw_boxes(panel, priors[is_used], chosen, size=size)
  masks = paint(example["image"], mask_weights(example), colors[valid])
  boxes = draw_boxes(masks, boxes[valid], colors[valid], size=size)
  return join(panel, positives, boxes)


PICTURES = {
  "solo": draw_solo,
  "decoupled_solo": draw_decoupled,
  "cascade": draw_cascade,
  "htc": draw_htc,
  "yolact": draw_yolact,
}


def main(folder: str, data_dir: str = "data") -> None:
  """Draws all pictures into a folder, as method_NAME.png."""
  for name, draw in PICTURES.items():
    picture = PIL.Image.fromarray(draw(data_dir))
    file = pathlib.Path(folder) / f"method_{name}.png"
    picture.quantize(128).save(file, optimize=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
