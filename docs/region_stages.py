r"""Draws what a region-based network does, stage by stage, on a dataset.

python docs/region_stages.py docs/images/region_stages.png workdirs/mask_rcnn \
    workdirs/point_rend

Of a second checkpoint (PointRend), only the masks are drawn.
"""

import sys

import jax
import numpy as np
import PIL.Image
from PIL import ImageDraw

from solo_jax.api import Predictor
from solo_jax.checkpoints.store import load
from solo_jax.data.records import open_records, read_sample
from solo_jax.inference.preparation import Preparation
from solo_jax.visualization import Look, draw_instances
from solo_jax.weights import load_model

IMAGES = (3, 11)  # positions in the evaluation split
SIDE, GAP = 360, 6
MAX_PROPOSALS = 40
LOOK = Look(show=("contour", "fill"))


def find_proposals(model, image: np.ndarray) -> np.ndarray:
  """Returns the proposals of an image, the best first. [n, 4]."""
  prepared = Preparation(model.preprocessing, (1.0,))(0, image)
  size = np.asarray(prepared.image_sizes)

  def propose(network, image):
    features = network.features(image, size, train=False)
    return network.select(network.propose(features), size, train=False)

  found = model.method.network.apply(
    model.variables, prepared.images[0][None], method=propose
  )
  found = jax.device_get(found)
  scale = np.divide(prepared.original_size, prepared.image_sizes[0])
  boxes = found.boxes[0][found.valid[0]][:MAX_PROPOSALS]
  return boxes * scale[[1, 0, 1, 0]]


def draw_boxes(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
  """Returns the image, enlarged, with boxes drawn on it."""
  factor = SIDE / image.shape[1]
  canvas = PIL.Image.fromarray(image).resize((SIDE, SIDE))
  draw = ImageDraw.Draw(canvas)
  for box in boxes * factor:
    draw.rectangle(tuple(box), outline=(255, 225, 0), width=2)
  return np.array(canvas)


def main(file: str, first: str, *others: str) -> None:
  """Draws a row for each image: proposals, boxes, masks, others' masks."""
  model = load_model(first)
  predictors = [Predictor.from_checkpoint(x) for x in (first, *others)]
  dataset = load(first).config.dataset
  records = open_records(dataset.data_dir, dataset.name, dataset.eval_split)
  rows = []
  for position in IMAGES:
    image = read_sample(records[position]).image
    found, *more = (x(image).above(0.5) for x in predictors)
    panels = [
      draw_boxes(image, find_proposals(model, image)),
      draw_boxes(image, found.boxes_xyxy),
      *(
        draw_instances(image, x, model.class_names, look=LOOK)
        for x in (found, *more)
      ),
    ]
    panels = [
      np.array(PIL.Image.fromarray(panel).resize((SIDE, SIDE)))
      for panel in panels
    ]
    gap = np.full((SIDE, GAP, 3), 255, np.uint8)
    row = [x for panel in panels for x in (gap, panel)][1:]
    rows.append(np.concatenate(row, axis=1))
  gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
  picture = [x for row in rows for x in (gap, row)][1:]
  whole = PIL.Image.fromarray(np.concatenate(picture))
  whole.quantize(256).save(file, optimize=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
