r"""Draws how QueryInst's proposals move over the stages, on a dataset.

python docs/query_stages.py docs/images/query_stages.png workdirs/queryinst
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
from solo_jax.methods.queryinst.network import first_boxes
from solo_jax.weights import load_model

IMAGES = (3, 11)  # positions in the evaluation split
SIDE, GAP = 320, 6
NUM_SHOWN = 6


def find_stages(model, image: np.ndarray) -> tuple[list[np.ndarray], ...]:
  """Returns boxes before the first stage and after each, and the last masks.

  Args:
    model: Of `load_model`.
    image: RGB. [H, W, 3] uint8.

  Returns:
    Boxes of the best proposals in pixels of the image, [NUM_SHOWN, 4] each, and
    their masks. [NUM_SHOWN, 28, 28].
  """
  prepared = Preparation(model.preprocessing, (1.0,))(0, image)
  size = np.asarray(prepared.image_sizes)

  def run(network, image):
    pyramid = network.features(image, size, train=False)
    stages = network.find_boxes(pyramid, size)
    logits = network.find_masks(pyramid, stages[-1], -1, train=False)
    return first_boxes(network.proposal_boxes, size), stages, logits

  first, stages, logits = jax.device_get(
    model.method.network.apply(
      model.variables, prepared.images[0][None], method=run
    )
  )
  scores = stages[-1].class_logits[0]
  best = np.argsort(-scores.max(axis=1))[:NUM_SHOWN]
  scale = np.divide(prepared.original_size, prepared.image_sizes[0])
  boxes = [first, *(stage.boxes_xyxy for stage in stages)]
  boxes = [x[0][best] * scale[[1, 0, 1, 0]] for x in boxes]
  masks = logits[0][best, ..., scores[best].argmax(axis=1)]
  return boxes, 1 / (1 + np.exp(-masks))


def draw_panel(image, boxes, colors, masks=None) -> np.ndarray:
  """Returns the image, enlarged, with boxes and masks on it."""
  canvas = PIL.Image.fromarray(image).resize((SIDE, SIDE))
  draw = ImageDraw.Draw(canvas)
  for i, box in enumerate(np.clip(boxes * SIDE / image.shape[1], 0, SIDE - 1)):
    x1, y1, x2, y2 = (int(x) for x in box)
    if masks is not None and x2 > x1 and y2 > y1:
      mask = PIL.Image.fromarray(np.uint8(170 * (masks[i] >= 0.5)))
      canvas.paste(colors[i], (x1, y1), mask.resize((x2 - x1, y2 - y1)))
    draw.rectangle((x1, y1, x2, y2), outline=colors[i], width=3)
  return np.array(canvas)


def main(file: str, checkpoint: str, data_dir: str = "data") -> None:
  """Draws a row for each image: boxes before and after each stage, masks."""
  model, dataset = load_model(checkpoint), load(checkpoint).config.dataset
  records = open_records(data_dir, dataset.name, dataset.eval_split)
  colors = [visualization.PALETTE.by_idx(i).as_rgb() for i in range(NUM_SHOWN)]
  rows = []
  for position in IMAGES:
    image = read_sample(records[position]).image
    boxes, masks = find_stages(model, image)
    panels = [draw_panel(image, x, colors) for x in boxes[:-1]]
    panels.append(draw_panel(image, boxes[-1], colors, masks))
    gap = np.full((SIDE, GAP, 3), 255, np.uint8)
    row = [x for panel in panels for x in (gap, panel)][1:]
    rows.append(np.concatenate(row, axis=1))
  gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
  picture = [x for row in rows for x in (gap, row)][1:]
  whole = PIL.Image.fromarray(np.concatenate(picture))
  whole.quantize(256).save(file, optimize=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
