r"""Draws how SOLOv2 makes masks: mask feature, cells, kernels, masks.

python docs/dynamic_masks.py docs/images/dynamic_masks.png workdirs/shapes
"""

import sys

import jax
import numpy as np
import PIL.Image
from PIL import ImageDraw

from solo_jax import visualization
from solo_jax.checkpoints.store import load
from solo_jax.data.records import open_records, read_sample
from solo_jax.inference.preparation import Preparation
from solo_jax.weights import load_model

IMAGE = 5  # position in the evaluation split
SIDE, GAP = 240, 6
NUM_MASKS = 4
LEAST_SCORE = 0.3


def run(model, image: np.ndarray) -> tuple[np.ndarray, list, list, np.ndarray]:
  """Returns the input, and probabilities, kernels and feature of the network.

  Args:
    model: The trained model.
    image: RGB. [h, w, 3] uint8.

  Returns:
    The padded input [H, W, 3]; probabilities of an object [S, S] and kernels
    [S, S, E] of each level; the mask feature [h, w, E].
  """
  prepared = Preparation(model.preprocessing, (1.0,))(0, image)
  pixels = prepared.images[0][None]
  outputs = model.method.network.apply(
    model.variables, pixels, np.asarray(prepared.image_sizes), train=False
  )
  probs = [jax.nn.sigmoid(x[0]).max(-1) for x in outputs.category_logits]
  return (
    pixels[0],
    [np.asarray(x) for x in probs],
    [np.asarray(x[0]) for x in outputs.kernel],
    np.asarray(outputs.mask_feature[0]),
  )


def choose(probs, kernels, feature) -> list[tuple]:
  """Returns the best cells of different objects.

  Args:
    probs: [S, S] of each level.
    kernels: [S, S, E] of each level.
    feature: [h, w, E].

  Returns:
    (level, row, column, mask [h, w] in [0, 1]) of each, by decreasing score.
  """
  cells = [
    (-x[row, column], level, row, column)
    for level, x in enumerate(probs)
    for row, column in np.argwhere(x >= LEAST_SCORE)
  ]
  chosen = []
  for _, level, row, column in sorted(cells):
    mask = np.asarray(jax.nn.sigmoid(feature @ kernels[level][row, column]))
    inside = mask > 0.5
    others = [x[-1] > 0.5 for x in chosen]
    overlaps = [(inside & x).sum() / (inside | x).sum() for x in others]
    if inside.any() and max(overlaps, default=0) < 0.3:
      chosen.append((level, row, column, mask))
  return chosen


def enlarge(picture: np.ndarray, method="NEAREST") -> PIL.Image.Image:
  """Returns a picture [h, w, 3] of SIDE x SIDE."""
  picture = PIL.Image.fromarray(np.uint8(picture))
  return picture.resize((SIDE, SIDE), PIL.Image.Resampling[method])


def draw_feature(feature: np.ndarray) -> PIL.Image.Image:
  """Returns the three main directions of the channels as colours.

  Neighbours are averaged, as a feature of stride 2 is interleaved.
  """
  height, width, channels = feature.shape
  feature = feature.reshape(height // 2, 2, width // 2, 2, channels)
  feature = feature.mean((1, 3))
  flat = feature.reshape(-1, channels)
  flat = flat - flat.mean(0)
  _, directions = np.linalg.eigh(flat.T @ flat)
  maps = flat @ directions[:, -1:-4:-1]
  low, high = np.percentile(maps, (1, 99), axis=0)
  maps = np.clip((maps - low) / (high - low), 0, 1)
  return enlarge(255 * maps.reshape(*feature.shape[:2], 3))


def draw_cells(image, probs, chosen, colors) -> PIL.Image.Image:
  """Returns the chosen cells of all levels, over the image."""
  panel = enlarge(image, "BILINEAR")
  draw = ImageDraw.Draw(panel)
  for (level, row, column, _), color in zip(chosen, colors, strict=True):
    step = SIDE / len(probs[level])
    corners = np.array([column, row, column + 1, row + 1]) * step
    draw.rectangle(tuple(corners), outline=color, width=3)
  return panel


def draw_masks(chosen, colors) -> PIL.Image.Image:
  """Returns the masks of four cells in frames of their colours."""
  panel, half = PIL.Image.new("RGB", (SIDE, SIDE)), SIDE // 2
  for i, (*_, mask) in enumerate(chosen[:NUM_MASKS]):
    tile = PIL.Image.fromarray(np.uint8(255 * mask)).resize((half, half))
    panel.paste(tile.convert("RGB"), (i % 2 * half, i // 2 * half))
    corner = np.array([i % 2, i // 2, i % 2 + 1, i // 2 + 1]) * half
    ImageDraw.Draw(panel).rectangle(
      tuple(corner - [0, 0, 1, 1]), outline=colors[i], width=3
    )
  return panel


def draw_instances(image, chosen, colors) -> PIL.Image.Image:
  """Returns all masks over the image."""
  picture = np.array(enlarge(image, "BILINEAR"), np.float32)
  for (*_, mask), color in zip(chosen, colors, strict=True):
    mask = PIL.Image.fromarray(np.float32(mask)).resize((SIDE, SIDE))
    inside = np.array(mask) > 0.5
    picture[inside] = 0.35 * picture[inside] + 0.65 * np.array(color)
  return PIL.Image.fromarray(np.uint8(picture))


def main(file: str, checkpoint: str) -> None:
  """Draws mask feature, cells, masks of four cells, and all instances."""
  model = load_model(checkpoint)
  dataset = load(checkpoint).config.dataset
  records = open_records(dataset.data_dir, dataset.name, dataset.eval_split)
  image, probs, kernels, feature = run(model, read_sample(records[IMAGE]).image)
  chosen = choose(probs, kernels, feature)
  colors = [
    visualization.PALETTE.by_idx(i).as_rgb() for i in range(len(chosen))
  ]
  panels = [
    draw_feature(feature),
    draw_cells(image, probs, chosen, colors),
    draw_masks(chosen, colors),
    draw_instances(image, chosen, colors),
  ]
  width = len(panels) * (SIDE + GAP) - GAP
  picture = PIL.Image.new("RGB", (width, SIDE), (255, 255, 255))
  for i, panel in enumerate(panels):
    picture.paste(panel, (i * (SIDE + GAP), 0))
  picture.quantize(160).save(file, optimize=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
