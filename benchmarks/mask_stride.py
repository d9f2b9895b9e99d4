r"""Mask targets of Mask2Former at stride 1, 2 and 4: loss, CPU time and bytes.

The published code samples masks at full resolution. Coarser masks take less
memory and time, but give other values at the points. The same images, jitter,
predictions and points are used for every kind of target. A prediction is made
from a mask: its coverage of cells of stride 4, moved by up to a cell, smoothed
and turned into logits, so most points that the loss chooses are at its edge.

python -m solo_jax.prepare --dataset=coco_instances --source=COCO_DIR
JAX_PLATFORMS=cpu taskset -c 1 python benchmarks/mask_stride.py
"""

import functools
import json
import time

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import rich.table
from absl import app, flags
from ml_collections import config_flags

from solo_jax.data import pipeline
from solo_jax.losses.point_mask import point_mask_losses
from solo_jax.methods.mask2former.loss import draw_points
from solo_jax.methods.queries.points import (
  read_mask_points,
  read_points,
  uncertain_points,
)
from solo_jax.training.setup import open_data

_CONFIG = config_flags.DEFINE_config_file(
  "config", "configs/mask2former_coco.py", "A config of Mask2Former."
)
_IMAGES = flags.DEFINE_integer("images", 20, "Training images.")

KINDS = ((1, "majority"), (2, "majority"), (2, "coverage"), (4, "majority"),
         (4, "coverage"))  # fmt: skip
STRIDE = 4  # of the network's masks


def read_batches(config, stride: int, rule: str) -> tuple[list, float]:
  """Returns the batches of one image each, and the CPU-ms per image."""
  transforms = config.transforms.to_dict()
  transforms.update(mask_stride=stride, mask_rule=rule)
  batches = pipeline.train_batches(
    open_data(config, config.dataset.train_split),
    pipeline.Reading(
      batch_size=1,
      seed=0,
      num_workers=0,
      transforms=transforms,
      keep_empty=False,
      group_by_orientation=False,
    ),
    step=0,
    process_index=0,
    process_count=1,
  )
  kept = [next(batches)]  # opens files
  start = time.process_time()
  kept += [next(batches) for _ in range(_IMAGES.value - 1)]
  cpu_ms = 1000 * (time.process_time() - start) / (_IMAGES.value - 1)
  batches.close()
  return kept, cpu_ms


def predict(batch, rng: np.random.Generator) -> np.ndarray:
  """Returns the mask logits of an image. [N, h, w] float32."""
  masks = np.asarray(batch.masks.unpack(), np.float32)[0]
  height, width = (n // STRIDE for n in masks.shape[1:])
  logits = []
  for mask in masks:
    cover = mask.reshape(height, STRIDE, width, STRIDE).mean((1, 3))
    shift = np.float32([[1, 0, 0], [0, 1, 0]])
    shift[:, 2] = rng.uniform(-1, 1, 2)
    cover = cv2.warpAffine(cover, shift, (width, height))
    logits.append(12 * cv2.GaussianBlur(cover, (5, 5), 1.0) - 6)
  return np.stack(logits)


@jax.jit
def compute(masks, logits, candidates, others):
  """Returns both losses of each mask, [N] each, and the gradient's map."""

  def loss(logits):
    index = jnp.arange(len(logits))[None]
    num_points = _CONFIG.value.loss.num_points
    chosen = uncertain_points(logits, index, candidates, others, num_points)
    losses = point_mask_losses(
      read_points(logits, index, chosen), read_mask_points(masks, chosen)
    )
    return sum(jnp.sum(x) for x in losses), losses

  return jax.value_and_grad(loss, has_aux=True)(logits)


def main(_) -> None:
  config = _CONFIG.value
  draw = functools.partial(
    draw_points,
    num_points=config.loss.num_points,
    oversample_ratio=config.loss.oversample_ratio,
    importance_sample_ratio=config.loss.importance_sample_ratio,
  )
  rng = np.random.default_rng(0)
  rows, expected = [], []
  for stride, rule in KINDS:
    batches, cpu_ms = read_batches(config, stride, rule)
    entropy, dice, angle, loss_ms = [], [], [], []
    for i, batch in enumerate(batches):
      if not rows:
        expected.append(dict(logits=predict(batch, rng)))
      truth = expected[i]
      points = draw(jax.random.split(jax.random.key(i), 1), 0)
      pairs = jnp.arange(batch.valid.shape[1])
      places = [x[None] for x in points.of_pairs(0 * pairs, pairs)]
      arguments = batch.masks, truth["logits"], *places
      jax.block_until_ready(compute(*arguments))
      start = time.process_time()
      (_, losses), gradient = jax.block_until_ready(compute(*arguments))
      loss_ms.append(1000 * (time.process_time() - start))
      valid = batch.valid[0]
      losses = [np.asarray(x)[0][valid] for x in losses]
      gradient = np.asarray(gradient)[valid].ravel()
      truth.setdefault("losses", losses)
      truth.setdefault("gradient", gradient)
      entropy.append(np.abs(losses[0] - truth["losses"][0]))
      dice.append(np.abs(losses[1] - truth["losses"][1]))
      norms = np.linalg.norm(gradient) * np.linalg.norm(truth["gradient"])
      angle.append(gradient @ truth["gradient"] / norms)
    rows.append(
      dict(
        stride=stride,
        rule=rule,
        mib=batches[0].masks.data.nbytes / 2**20,
        data_cpu_ms=cpu_ms,
        loss_cpu_ms=float(np.min(loss_ms)),
        entropy_difference=float(np.concatenate(entropy).mean()),
        dice_difference=float(np.concatenate(dice).mean()),
        gradient_cosine=float(np.mean(angle)),
      )
    )
  means = [
    float(np.concatenate([x["losses"][k] for x in expected]).mean())
    for k in (0, 1)
  ]
  table = rich.table.Table(
    *rows[0], title=f"mean losses at stride 1: {means[0]:.4f}, {means[1]:.4f}"
  )
  for row in rows:
    table.add_row(
      *(f"{x:.4g}" if isinstance(x, float) else str(x) for x in row.values())
    )
  rich.console.Console(width=150).print(table)
  print(json.dumps(dict(means=means, rows=rows)))


if __name__ == "__main__":
  app.run(main)
