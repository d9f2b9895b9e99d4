r"""Splits the nuclei by source: whole groups of similar images are held out.

A random split is optimistic, because it puts neighbouring crops of one slide
into both parts. Here the images of each modality are clustered by size, colour
and texture (k-means), and whole clusters are moved to the validation part until
it has a fifth of the modality.

python benchmarks/nuclei_sources.py --source=../shared/data/nuclei \
    --out=nuclei_by_source
python -m solo_jax.prepare --dataset=labeled_images --name=nuclei_by_source \
    --source=nuclei_by_source
python -m solo_jax.train --config=configs/solov2_nuclei.py \
    --config.dataset.name=labeled_images/nuclei_by_source --workdir=WORKDIR
"""

import collections
import json
import pathlib
import shutil

import numpy as np
import PIL.Image
import scipy.cluster.vq
from absl import app, flags

SOURCE = flags.DEFINE_string(
  "source", None, "Folder with the nuclei.", required=True
)
OUT = flags.DEFINE_string("out", None, "A new folder.", required=True)

IMAGES_PER_CLUSTER = 12
HELD_OUT = 0.2


def describe(image: np.ndarray) -> list[float]:
  """Returns size, colours and texture of an image [H, W, 3] uint8."""
  values = image / 255.0
  grey = values.mean(-1)
  texture = [np.abs(np.diff(grey, axis=axis)).mean() for axis in (0, 1)]
  colours = [*values.mean((0, 1)), *values.std((0, 1))]
  return [*np.log(image.shape[:2]), *colours, 4 * sum(texture)]


def hold_out(features: np.ndarray) -> np.ndarray:
  """Returns which images [N] of a modality are held out, whole clusters.

  Args:
    features: [N, F], those of `describe`.
  """
  scaled = (features - features.mean(0)) / (features.std(0) + 1e-6)
  number = max(2, len(scaled) // IMAGES_PER_CLUSTER)
  _, labels = scipy.cluster.vq.kmeans2(scaled, number, minit="++", rng=0)
  order = np.random.default_rng(0).permutation(number)
  sizes = np.bincount(labels, minlength=number)[order]
  # Never the whole modality: at least one cluster stays.
  enough = np.cumsum(sizes) - sizes >= HELD_OUT * len(scaled)
  return np.isin(labels, order[:-1][~enough[:-1]])


def main(argv: list[str]) -> None:
  """Copies the images with another index.json."""
  del argv
  source, out = pathlib.Path(SOURCE.value), pathlib.Path(OUT.value)
  out.mkdir()
  for part in ("images", "labels"):
    shutil.copytree(source / part, out / part)
  rows = json.loads((source / "index.json").read_text())
  for modality in sorted({row["modality"] for row in rows}):
    members = [row for row in rows if row["modality"] == modality]
    features = []
    for row in members:
      with PIL.Image.open(source / "images" / f"{row['id']}.png") as image:
        features.append(describe(np.asarray(image.convert("RGB"))))
    for row, is_out in zip(members, hold_out(np.array(features)), strict=True):
      row["split"] = "val" if is_out else "train"
  (out / "index.json").write_text(json.dumps(rows, indent=1))
  counts = collections.Counter((row["modality"], row["split"]) for row in rows)
  print(dict(sorted(counts.items())))


if __name__ == "__main__":
  app.run(main)
