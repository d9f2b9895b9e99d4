r"""Draws the first picture of README and docs from trained checkpoints.

python docs/hero.py docs/images/hero.png \
    workdirs/photos:2,3 workdirs/nuclei:1,3

Each argument after the file is a checkpoint and the positions of images in its
training split. Predictions and ground truth have one colour per object.
"""

import sys

import numpy as np
import PIL.Image

from solo_jax.api import Predictor
from solo_jax.checkpoints.store import load
from solo_jax.data.records import open_records, read_sample
from solo_jax.media.pictures import truth_of
from solo_jax.visualization import Look, draw_instances, match

WIDTH = 1200  # pixels of a row
GAP = 6


def make_panels(predictor: Predictor, record: dict) -> list[np.ndarray]:
  """Returns image, prediction and ground truth of a record."""
  sample = read_sample(record)
  truth = truth_of(sample)
  found = predictor(sample.image).above(0.3)
  names, look = predictor.class_names, Look(show=("contour", "fill"))
  return [
    sample.image,
    draw_instances(
      sample.image, found, names, colors=match(found, truth), look=look
    ),
    draw_instances(sample.image, truth, names, look=look),
  ]


def make_row(panels: list[np.ndarray]) -> PIL.Image.Image:
  """Returns panels side by side, scaled to one height and to WIDTH."""
  ratios = [panel.shape[1] / panel.shape[0] for panel in panels]
  height = round((WIDTH - GAP * (len(panels) - 1)) / sum(ratios))
  row = PIL.Image.new("RGB", (WIDTH, height), "white")
  x = 0
  for panel, ratio in zip(panels, ratios, strict=True):
    size = (round(height * ratio), height)
    image = PIL.Image.fromarray(panel)
    row.paste(image.resize(size, PIL.Image.Resampling.LANCZOS), (x, 0))
    x += size[0] + GAP
  return row


def main(file: str, *sources: str) -> None:
  """Draws one row per checkpoint and writes the picture."""
  rows = []
  for source in sources:
    checkpoint, positions = source.rsplit(":", 1)
    dataset = load(checkpoint).config.dataset
    records = open_records(dataset.data_dir, dataset.name, "train")
    predictor = Predictor.from_checkpoint(checkpoint)
    panels = []
    for position in positions.split(","):
      panels += make_panels(predictor, records[int(position)])
    rows.append(make_row(panels))
  height = sum(row.height + GAP for row in rows) - GAP
  sheet = PIL.Image.new("RGB", (WIDTH, height), "white")
  y = 0
  for row in rows:
    sheet.paste(row, (0, y))
    y += row.height + GAP
  sheet.quantize(256, dither=PIL.Image.Dither.FLOYDSTEINBERG).save(
    file, optimize=True
  )


if __name__ == "__main__":
  main(*sys.argv[1:])
