r"""CPU time and bytes per training image of the data pipeline, stage by stage.

Large-scale jitter at 512 x 512 on any prepared dataset, one thread:

python -m solo_jax.prepare --dataset=coco_instances --source=COCO_DIR \
    --data_dir=data
python benchmarks/data_pipeline.py --data_dir=data

--config=configs/solov2_coco.py:schedule=3x measures the transforms of a config.
"""

import json
import time
from collections.abc import Callable

import cv2
import jax
import numpy as np
import rich.console
import rich.table
from absl import app, flags
from ml_collections import config_flags

from solo_jax.data import (
  augmentations,
  batching,
  mask_frames,
  mask_targets,
  pipeline,
  records,
)

_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Prepared datasets.")
_NAME = flags.DEFINE_string(
  "name", "coco_instances/2017", "Dataset below data_dir."
)
_SPLIT = flags.DEFINE_string("split", "train", "Split to read.")
_SIZE = flags.DEFINE_integer("size", 512, "Side of the network input, pixels.")
_MASK_RULE = flags.DEFINE_enum(
  "mask_rule", "majority", mask_targets.MASK_RULES, "Rule of the mask targets."
)
_CONFIG = config_flags.DEFINE_config_file(
  "config",
  None,
  "Config whose transforms are used instead of jitter at --size.",
)
_NUM_IMAGES = flags.DEFINE_integer("num_images", 160, "Images per pass.")
_PASSES = flags.DEFINE_integer("passes", 3, "Passes; the best one counts.")
_WORKERS = flags.DEFINE_integer("num_workers", 0, "Workers of the stream.")

BATCH_SIZE = 16
STREAM = "whole stream (Grain)"


def cpu_ms(work: Callable[[int], object], num: int) -> float:
  """Mean CPU time of one call in ms, best of the passes."""
  best = np.inf
  for _ in range(_PASSES.value):
    start = time.process_time()
    for i in range(num):
      work(i)
    best = min(best, time.process_time() - start)
  return 1e3 * best / num


def measure_stages(source: records.Records, options: dict) -> dict[str, float]:
  """Times each stage on the images of a split, in CPU ms per image."""
  num = min(_NUM_IMAGES.value, len(source))
  rows = [source[i] for i in range(num)]
  samples = [records.read_sample(row) for row in rows]
  image_size = options["image_size"]
  augmentation = augmentations.build(options["augment"], image_size)
  interpolation = augmentation.interpolation
  targets = dict(
    mask_frame=mask_frames.from_settings(options),
    max_instances=options["max_instances"],
    min_mask_area=options["min_mask_area"],
  )

  def transform(i):
    return augmentation(samples[i], np.random.default_rng(i))

  moved = [transform(i) for i in range(num)]

  def render(i):
    return batching.render_image(
      moved[i], image_size=image_size, interpolation=interpolation
    )

  def example(i):
    return batching.make_example(
      moved[i], image_size=image_size, interpolation=interpolation, **targets
    )

  examples = [example(i) for i in range(min(num, BATCH_SIZE))]

  def pack(_):
    return jax.tree.map(lambda *rows: np.stack(rows), *examples)

  warp = cpu_ms(render, num)
  stages = {
    "read record": cpu_ms(lambda i: source[i], num),
    "decode image": cpu_ms(lambda i: records.read_sample(rows[i]), num),
    "draw augmentation": cpu_ms(transform, num),
    "render image": warp,
    "decode masks, targets": cpu_ms(example, num) - warp,
    "stack to a batch": cpu_ms(pack, 20) / len(examples),
  }
  return stages


def measure_stream(
  source: records.Records, options: dict, by_orientation: bool
) -> dict[str, float]:
  """Times the stream as training sees it; workers count in wall time only."""
  batches = pipeline.train_batches(
    source,
    pipeline.Reading(
      batch_size=BATCH_SIZE,
      seed=0,
      num_workers=_WORKERS.value,
      transforms=options,
      keep_empty=True,
      group_by_orientation=by_orientation,
    ),
    step=0,
    process_index=0,
    process_count=1,
  )
  # Fill the read-ahead first, so that as much is produced as is taken.
  for _ in range(5):
    batch = next(batches)
  num_batches = -(-_NUM_IMAGES.value // BATCH_SIZE)
  best_cpu = best_wall = np.inf
  for _ in range(_PASSES.value):
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(num_batches):
      batch = next(batches)
    best_cpu = min(best_cpu, time.process_time() - cpu)
    best_wall = min(best_wall, time.perf_counter() - wall)
  batches.close()
  num = num_batches * BATCH_SIZE
  num_bytes = sum(array.nbytes for array in jax.tree.leaves(batch))
  return {
    STREAM: 1e3 * best_cpu / num,
    "images_per_s": num / best_wall,
    "MB_per_image": num_bytes / BATCH_SIZE / 1e6,
  }


def jitter_options() -> dict:
  """Returns the transforms of large-scale jitter at --size."""
  return dict(
    image_size=(_SIZE.value, _SIZE.value),
    augment=(
      ("orient", dict(flip=0.5)),
      ("scale_jitter", dict(factor=(0.1, 2.0))),
    ),
    mask_frame="image",
    mask_stride=4,
    mask_rule=_MASK_RULE.value,
    max_instances=100,
    min_mask_area=1.0,
  )


def main(_) -> None:
  cv2.setNumThreads(0)
  source = records.open_records(_DATA_DIR.value, _NAME.value, _SPLIT.value)
  by_orientation, title = False, f"{_SIZE.value} px"
  if _CONFIG.value is None:
    options = jitter_options()
  else:
    options = _CONFIG.value.transforms.to_dict()
    by_orientation = _CONFIG.value.dataset.group_by_orientation
    title = "{} x {} px".format(*options["image_size"])
  stages = measure_stages(source, options)
  stream = measure_stream(source, options, by_orientation)
  stages |= {"sum of stages": sum(stages.values()), STREAM: stream.pop(STREAM)}
  table = rich.table.Table(
    "stage", "CPU-ms per image", title=f"{_NAME.value}, {title}"
  )
  for stage, milliseconds in stages.items():
    table.add_row(stage, f"{milliseconds:.2f}")
  rich.console.Console().print(table)
  result = {
    "benchmark": "data_pipeline",
    "image_size": options["image_size"],
    "mask_rule": options["mask_rule"],
    "num_workers": _WORKERS.value,
    "objects_per_image": float(source.num_objects.mean()),
    "cpu_ms": stages,
    **stream,
  }
  print(json.dumps(result, default=float))


if __name__ == "__main__":
  app.run(main)
