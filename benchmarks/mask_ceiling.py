r"""What perfect masks would score: the bound that mask stride and targets set.

The mask targets of the annotations themselves take the place of predictions
and go the real way to the original size and into COCO's metrics.

python -m solo_jax.prepare --dataset=shapes --data_dir=data
python benchmarks/mask_ceiling.py --short_side=128 --max_side=128

Hard targets are bits, 'coverage' is soft. Crowds are no targets.
"""

import json

import numpy as np
import rich.console
import rich.table
from absl import app, flags

from solo_jax import types
from solo_jax.data import batching, records, transforms
from solo_jax.evaluation import coco_metrics
from solo_jax.inference.masks import masks_to_original

MASK_STRIDES = (4, 2)
MULTIPLE = 32  # of the padded network input


def perfect_instances(
  sample: types.Sample,
  *,
  short_side: int,
  max_side: int,
  mask_stride: int,
  mask_rule: str,
) -> types.Instances:
  """Decodes the mask targets of a sample as if they had been predicted.

  Args:
    sample: As read from its record.
    short_side: Of the network input, pixels.
    max_side: Of the network input, pixels.
    mask_stride: Network pixels per mask cell.
    mask_rule: As for `batching.make_example`.

  Returns:
    Instances at the original size, all of score 1.
  """
  resized = transforms.resize_to_fit(
    sample, short_side=short_side, max_side=max_side
  )
  height, width = (-(-n // MULTIPLE) * MULTIPLE for n in resized.image_size)
  example = batching.make_example(
    resized,
    image_size=(height, width),
    mask_stride=mask_stride,
    mask_rule=mask_rule,
    max_instances=max(len(sample.labels), 1),
    min_mask_area=0.0,
  )
  targets = example["masks"][example["valid"]]
  if mask_rule == "coverage":
    mask_probs = targets / np.float32(255)
  else:
    mask_probs = np.unpackbits(targets, axis=-1).astype(np.float32)
  masks, boxes_xyxy = masks_to_original(
    mask_probs,
    mask_stride=mask_stride,
    image_size=resized.image_size,
    original_size=sample.original_size,
    threshold=0.5,
  )
  return types.Instances(
    masks=masks,
    scores=np.ones(len(masks), np.float32),
    labels=example["labels"][example["valid"]],
    boxes_xyxy=boxes_xyxy,
  )


def measure_ceiling(
  source: records.Records,
  *,
  short_side: int,
  max_side: int,
  mask_stride: int,
  mask_rule: str,
) -> coco_metrics.Metrics:
  """Scores perfect masks.

  Args:
    source: Images to use.
    short_side: Of the network input, pixels.
    max_side: Of the network input, pixels.
    mask_stride: Network pixels per mask cell.
    mask_rule: As for `batching.make_example`.

  Returns:
    Their metrics.
  """
  results = []
  for index in range(len(source)):
    sample = records.read_sample(source[index])
    found = perfect_instances(
      sample,
      short_side=short_side,
      max_side=max_side,
      mask_stride=mask_stride,
      mask_rule=mask_rule,
    )
    results += coco_metrics.to_results(
      found, sample.image_id, source.category_ids
    )
  return coco_metrics.evaluate(
    records.to_coco(source), results, max_detections=1000
  )


def main(_) -> None:
  values = flags.FLAGS
  source = records.open_records(values.data_dir, values.name, values.split)
  sides = dict(short_side=values.short_side, max_side=values.max_side)
  title = f"perfect masks, {values.name} {values.split}, {sides['short_side']}"
  table = rich.table.Table(
    "stride", "targets", "AR", "AP", "AP50", "AP small", title=f"{title} px"
  )
  rows = []
  for mask_stride in MASK_STRIDES:
    for mask_rule in batching.MASK_RULES:
      metrics = measure_ceiling(
        source, mask_stride=mask_stride, mask_rule=mask_rule, **sides
      )
      rows.append(
        {"stride": mask_stride, "rule": mask_rule, **metrics.scalars()}
      )
      shown = (
        metrics.mask_AR,
        metrics.mask_AP,
        metrics.mask_AP50,
        metrics.mask_AP_S,
      )
      cells = ("-" if value is None else f"{value:.3f}" for value in shown)
      table.add_row(str(mask_stride), mask_rule, *cells)
  rich.console.Console().print(table)
  print(
    json.dumps(
      {
        "benchmark": "mask_ceiling",
        "name": values.name,
        "split": values.split,
        **sides,
        "rows": rows,
      }
    )
  )


if __name__ == "__main__":
  flags.DEFINE_string("data_dir", "data", "Prepared datasets.")
  flags.DEFINE_string("name", "shapes", "Dataset below data_dir.")
  flags.DEFINE_string("split", "validation", "Split to read.")
  flags.DEFINE_integer("short_side", 128, "Of the network input, pixels.")
  flags.DEFINE_integer("max_side", 128, "Of the network input, pixels.")
  app.run(main)
