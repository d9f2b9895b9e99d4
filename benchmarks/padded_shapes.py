r"""Measures what padding to few shapes costs and saves.

python benchmarks/padded_shapes.py --checkpoint=workdirs/shapes

Evaluates a checkpoint on the images of its evaluation split, padded as `eval`
does, as `predict` does, and to each --pad_multiple, in one run: AP, programs,
and CPU seconds of all threads. The cache of programs is switched off.
"""

import dataclasses
import time

import jax
from absl import app, flags, logging

from solo_jax import weights
from solo_jax.data.records import open_records, to_coco
from solo_jax.evaluation import coco_metrics
from solo_jax.inference.predictor import Predictor
from solo_jax.scoring.records import detect_records

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "As of predict.")
DATA_DIR = flags.DEFINE_string("data_dir", "data", "Folder of prepared data.")
SPLIT = flags.DEFINE_string("split", None, "Default: the config's eval_split.")
PAD_MULTIPLE = flags.DEFINE_multi_integer("pad_multiple", [], "Padding to add.")


def main(argv: list[str]) -> None:
  """Runs the benchmark."""
  del argv
  logging.set_verbosity(logging.ERROR)
  jax.config.update("jax_enable_compilation_cache", False)
  checkpoint = weights.load(CHECKPOINT.value)
  config = checkpoint.config
  records = open_records(
    DATA_DIR.value,
    config.dataset.name,
    SPLIT.value or config.dataset.eval_split,
  )
  truth = to_coco(records)
  first = truth["images"][0]["height"], truth["images"][0]["width"]
  model = weights.load_model(CHECKPOINT.value)
  rule = model.preprocessing
  for few_shapes, pad_multiple in (
    (False, rule["pad_multiple"]),
    (True, rule["pad_multiple"]),
    *((False, pad_multiple) for pad_multiple in PAD_MULTIPLE.value),
  ):
    padded = {**rule, "pad_multiple": pad_multiple}
    predictor = Predictor(
      dataclasses.replace(model, preprocessing=padded), few_shapes=few_shapes
    )
    start = time.process_time()
    results = detect_records(
      predictor, records, category_ids=checkpoint.category_ids
    )
    seconds = time.process_time() - start
    metrics = coco_metrics.evaluate(
      truth, results, max_detections=config.evaluation.max_detections
    )
    print(
      f"few_shapes={few_shapes}, multiples of {pad_multiple}, first image "
      f"{predictor.padded_size(first)}: mask AP {metrics.mask_AP:.4f}, AP50 "
      f"{metrics.mask_AP50:.4f}, {predictor.num_compiled} programs, "
      f"{len(records)} images in {seconds:.1f} CPU s",
      flush=True,
    )


if __name__ == "__main__":
  flags.mark_flag_as_required("checkpoint")
  app.run(main)
