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
SIDE, GAP = 150, 6
NUM_DETECTIONS, NUM_PROTOTYPES = 4, 6
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


def main(file: str, checkpoint: str) -> None:
  """Draws the prototypes and a row for each of the best detections."""
  model = load_model(checkpoint)
  dataset = load(checkpoint).config.dataset
  records = open_records(dataset.data_dir, dataset.name, dataset.eval_split)
  image = read_sample(records[IMAGE]).image
  prototypes, found, cropped = find(model, image)
  strongest = np.argsort(-prototypes.std((0, 1)))[:NUM_PROTOTYPES]
  whole = np.array(PIL.Image.fromarray(image).resize((SIDE, SIDE)))
  maps = [prototypes[..., i] / prototypes[..., i].max() for i in strongest]
  rows = [[whole, *map(panel, maps)]]
  blank = np.full((SIDE, SIDE, 3), 255, np.uint8)
  for i in range(NUM_DETECTIONS):
    values = found.coefficients[i]
    mask = 1 / (1 + np.exp(-(prototypes @ values)))
    row = [bars(values), panel(mask), panel(cropped[i])]
    rows.append(row + [blank] * (len(rows[0]) - len(row)))
  # Two detections a row: pictures are wide.
  rows = [
    rows[0],
    *(
      [*a[:3], blank, *b[:3]]
      for a, b in zip(rows[1::2], rows[2::2], strict=True)
    ),
  ]
  gap = np.full((SIDE, GAP, 3), 255, np.uint8)
  drawn = [
    np.concatenate([x for p in row for x in (p, gap)][:-1], axis=1)
    for row in rows
  ]
  line = np.full((GAP, drawn[0].shape[1], 3), 255, np.uint8)
  picture = np.concatenate([x for row in drawn for x in (row, line)][:-1])
  PIL.Image.fromarray(picture).save(file, optimize=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
