r"""Draws how YOLACT makes masks: prototypes, coefficients, sums, crops.

python docs/prototype_masks.py docs/images/prototype_masks.png workdirs/yolact
"""

import sys

import jax
import numpy as np
import PIL.Image
from PIL import ImageDraw

from solo_jax.checkpoints.store import load
from solo_jax.data.records import open_records, read_sample
from solo_jax.inference.preparation import Preparation
from solo_jax.weights import load_model

IMAGE = 3  # position in the evaluation split
SIDE = 150
PADDING = (0, 6), (0, 6), (0, 0)
NUM_DETECTIONS, NUM_PROTOTYPES = 2, 6
POSITIVE, NEGATIVE = (52, 120, 198), (214, 84, 60)


def panel(map_2d: np.ndarray) -> np.ndarray:
  """Returns a map of [0, 1] as a grey picture."""
  grey = np.uint8(255 * np.clip(map_2d, 0, 1))
  return np.array(PIL.Image.fromarray(grey).convert("RGB").resize((SIDE, SIDE)))


def bars(values: np.ndarray) -> np.ndarray:
  """Returns coefficients in [-1, 1] as bars up and down."""
  canvas = PIL.Image.new("RGB", (SIDE, SIDE), (255, 255, 255))
  draw = ImageDraw.Draw(canvas)
  width, middle = SIDE / len(values), SIDE // 2
  for i, value in enumerate(values):
    end = middle - value * (middle - 4)
    low, high = sorted((middle, end))
    color = POSITIVE if value > 0 else NEGATIVE
    draw.rectangle((i * width + 2, low, (i + 1) * width - 2, high), color)
  draw.line((0, middle, SIDE, middle), (90, 90, 90))
  return np.array(canvas)


def find(model, image: np.ndarray) -> tuple:
  """Returns prototypes, detections and cropped masks of an image."""
  prepared = Preparation(model.preprocessing, (1.0,))(0, image)
  size, pixels = np.asarray(prepared.image_sizes), prepared.images[0][None]

  def run(network, pixels):
    predictions = network.predict(pixels, size, train=False)
    outputs = network.detect(predictions, size, pixels.shape[1:3])
    return predictions.prototypes, outputs.detections, outputs.mask_probs

  found = model.method.network.apply(model.variables, pixels, method=run)
  return jax.tree.map(lambda x: np.asarray(x[0]), found)


def choose(masks: np.ndarray) -> list[int]:
  """Returns the best detections of different objects, by decreasing score."""
  chosen = []
  for i, mask in enumerate(masks > 0.5):
    others = [masks[j] > 0.5 for j in chosen]
    overlaps = [(mask & x).sum() / max((mask | x).sum(), 1) for x in others]
    if mask.any() and max(overlaps, default=0) < 0.5:
      chosen.append(i)
  return chosen[:NUM_DETECTIONS]


def main(file: str, checkpoint: str) -> None:
  """Draws an image and its prototypes; below, detections, two in a row."""
  model = load_model(checkpoint)
  dataset = load(checkpoint).config.dataset
  records = open_records(dataset.data_dir, dataset.name, dataset.eval_split)
  image = read_sample(records[IMAGE]).image
  prototypes, found, cropped = find(model, image)
  strongest = np.argsort(-prototypes.std((0, 1)))[:NUM_PROTOTYPES]
  whole = np.array(PIL.Image.fromarray(image).resize((SIDE, SIDE)))
  maps = [prototypes[..., i] / prototypes[..., i].max() for i in strongest]
  blank = np.full((SIDE, SIDE, 3), 255, np.uint8)
  triples = []
  for i in choose(cropped):
    mask = 1 / (1 + np.exp(-(prototypes @ found.coefficients[i])))
    triples.append(
      [bars(found.coefficients[i]), panel(mask), panel(cropped[i])]
    )
  triples += [[blank] * 3] * (len(triples) % 2)
  rows = [[whole, *map(panel, maps)]]
  for left, right in zip(triples[::2], triples[1::2], strict=True):
    rows.append([*left, blank, *right])
  rows = [
    np.concatenate([np.pad(x, PADDING, constant_values=255) for x in row], 1)
    for row in rows
  ]
  PIL.Image.fromarray(np.concatenate(rows)).save(file, optimize=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
