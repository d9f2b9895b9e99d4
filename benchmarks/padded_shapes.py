r"""Measures what more padding than in an evaluation costs and saves.

python benchmarks/padded_shapes.py --checkpoint=workdirs/shapes --crop_width=96

Evaluates a checkpoint on its evaluation split, with images cropped to a width
if one is given. In one run, images are padded as in `eval`, as in `predict`, to
a square as large as the images, and to each --pad_multiple. Prints AP, the
number of programs, and CPU seconds of all threads. The cache of programs is
switched off.
"""

import dataclasses
import time

import jax
import numpy as np
from absl import app, flags, logging
from pycocotools import mask as coco_mask

from solo_jax import weights
from solo_jax.data import records as data_records
from solo_jax.evaluation import coco_metrics
from solo_jax.inference.predictor import Predictor

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "As for predict.")
DATA_DIR = flags.DEFINE_string("data_dir", "data", "Folder of prepared data.")
CROP_WIDTH = flags.DEFINE_integer("crop_width", None, "Left part of an image.")
PAD_MULTIPLE = flags.DEFINE_multi_integer("pad_multiple", [], "Padding to add.")


def crop(annotation: dict, width: int) -> dict | None:
  """Returns an annotation of the left part of its image; None without it."""
  mask = coco_mask.decode(annotation["segmentation"])[:, :width]
  if mask.sum() < 4:
    return None
  encoded = coco_mask.encode(np.asfortranarray(mask))
  area, box = float(mask.sum()), coco_mask.toBbox(encoded).tolist()
  return {**annotation, "segmentation": encoded, "area": area, "bbox": box}


def main(argv: list[str]) -> None:
  """Runs the benchmark."""
  del argv
  logging.set_verbosity(logging.ERROR)
  jax.config.update("jax_enable_compilation_cache", False)
  checkpoint = weights.load(CHECKPOINT.value)
  config = checkpoint.config
  records = data_records.open_records(
    DATA_DIR.value, config.dataset.name, config.dataset.eval_split
  )
  samples = [data_records.read_sample(records[i]) for i in range(len(records))]
  width = CROP_WIDTH.value or max(s.image.shape[1] for s in samples)
  images = [sample.image[:, :width] for sample in samples]
  truth = data_records.to_coco(records)
  cropped = [crop(a, width) for a in truth["annotations"]]
  truth["annotations"] = [a for a in cropped if a is not None]
  model = weights.load_model(CHECKPOINT.value)
  rule = {**model.preprocessing}
  square = max(rule["short_side"], rule["max_side"])
  if CROP_WIDTH.value:  # the same scale as before
    rule["short_side"] = square
  for name, few_shapes, pad_multiple in (
    ("as eval", False, rule["pad_multiple"]),
    ("as predict", True, rule["pad_multiple"]),
    ("square", False, square),
    *((f"multiples of {x}", False, x) for x in PAD_MULTIPLE.value),
  ):
    padded = {**rule, "pad_multiple": pad_multiple}
    predictor = Predictor(
      dataclasses.replace(model, preprocessing=padded), few_shapes=few_shapes
    )
    start, results = time.process_time(), []
    for i, found in predictor.stream(images):
      results += coco_metrics.to_results(
        found, samples[i].image_id, checkpoint.category_ids
      )
    seconds = time.process_time() - start
    metrics = coco_metrics.evaluate(
      truth, results, max_detections=config.evaluation.max_detections
    )
    print(
      f"{name}, the first {images[0].shape[:2]} to "
      f"{predictor.padded_size(images[0].shape[:2])}: mask AP "
      f"{metrics.mask_AP:.4f}, AP50 {metrics.mask_AP50:.4f}, "
      f"{predictor.num_compiled} programs, {seconds:.1f} CPU s",
      flush=True,
    )


if __name__ == "__main__":
  flags.mark_flag_as_required("checkpoint")
  app.run(main)
