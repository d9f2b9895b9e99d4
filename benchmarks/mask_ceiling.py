r"""The score of perfect masks: the bound set by mask stride and targets.

The mask targets of the annotations replace predictions: they are resized to the
original size and scored by COCO's metrics.

python -m solo_jax.prepare --dataset=shapes --data_dir=data
python benchmarks/mask_ceiling.py --short_side=128 --max_side=128

Hard targets are bits, 'coverage' is soft. Crowds are not targets. For the
bounds of grids and capacities of a complete config, see solo_jax.inspect_data.
"""

import json

import rich.console
import rich.table
from absl import app, flags

from solo_jax.data import mask_targets, records
from solo_jax.evaluation import coco_metrics
from solo_jax.inspection.oracle import measure_masks
from solo_jax.inspection.selection import Selection

MASK_STRIDES = (4, 2)
MULTIPLE = 32  # of the padded network input


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
    mask_rule: As for `mask_frames.ImageFrame`.

  Returns:
    Their metrics.
  """
  return measure_masks(
    Selection(source, 0),
    transforms=dict(
      mask_stride=mask_stride,
      mask_frame="image",
      mask_rule=mask_rule,
      max_instances=max(int(source.num_objects.max()), 1),
      min_mask_area=0.0,
      max_crowds=0,
    ),
    preprocessing=dict(
      short_side=short_side,
      max_side=max_side,
      keep_aspect=True,
      size_rounding="nearest",
      pad_multiple=MULTIPLE,
      tile_size=None,
      tile_overlap=0,
    ),
    on_image=lambda: None,
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
    for mask_rule in mask_targets.MASK_RULES:
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
