r"""Draws the first picture of README and docs from trained checkpoints.

python docs/hero.py docs/images/hero.jpg \
    workdirs/photos:train:3 workdirs/nuclei:train:1,3 \
    workdirs/solov2_shapes:validation:1,5

Each argument after the file is a checkpoint, a split and the positions of
images in it. Predictions and ground truth have one colour per object; objects
are labelled where there are few.
"""

import sys

import PIL.Image

from solo_jax import types
from solo_jax.api import Predictor
from solo_jax.checkpoints.store import load
from solo_jax.data.records import open_records, read_sample
from solo_jax.media.pictures import truth_of
from solo_jax.visualization import Look, draw_instances, match

WIDTH = 1200  # pixels of a row
GAP = 6
MOST_LABELS = 8  # more labels than this would hide the objects


def make_row(predictor: Predictor, samples: list) -> PIL.Image.Image:
  """Returns image, prediction and ground truth of samples, side by side."""
  ratios = [s.image.shape[1] / s.image.shape[0] for s in samples]
  width = WIDTH - GAP * (3 * len(samples) - 1)
  height = round(width / (3 * sum(ratios)))
  row, x = PIL.Image.new("RGB", (WIDTH, height), "white"), 0
  for sample, ratio in zip(samples, ratios, strict=True):
    for panel in make_panels(
      predictor, sample, (round(height * ratio), height)
    ):
      row.paste(panel, (x, 0))
      x += panel.width + GAP
  return row


def make_panels(
  predictor: Predictor, sample: types.Sample, size: tuple[int, int]
) -> list[PIL.Image.Image]:
  """Returns three panels of (width, height), scaled to that size."""
  found, truth = predictor(sample.image).above(0.3), truth_of(sample)
  colors = match(found, truth)
  show = ("contour", "fill", "labels")[: 3 if len(truth) <= MOST_LABELS else 2]
  drawn = [
    draw_instances(
      sample.image,
      instances,
      predictor.class_names,
      show_scores=False,
      colors=colors,
      look=Look(show=show),
    )
    for instances, colors in ((found, colors), (truth, None))
  ]
  return [
    PIL.Image.fromarray(panel).resize(size, PIL.Image.Resampling.LANCZOS)
    for panel in (sample.image, *drawn)
  ]


def main(file: str, *sources: str) -> None:
  """Draws one row per checkpoint and writes the picture."""
  rows = []
  for source in sources:
    checkpoint, split, positions = source.rsplit(":", 2)
    dataset = load(checkpoint).config.dataset
    records = open_records(dataset.data_dir, dataset.name, split)
    predictor = Predictor.from_checkpoint(checkpoint)
    samples = [read_sample(records[int(i)]) for i in positions.split(",")]
    rows.append(make_row(predictor, samples))
  height = sum(row.height + GAP for row in rows) - GAP
  sheet = PIL.Image.new("RGB", (WIDTH, height), "white")
  y = 0
  for row in rows:
    sheet.paste(row, (0, y))
    y += row.height + GAP
  sheet.save(file, quality=90, optimize=True)


if __name__ == "__main__":
  main(*sys.argv[1:])
