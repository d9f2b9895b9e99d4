r"""Mask AP by the number of training images, at equal CPU time per run.

python -m solo_jax.prepare --dataset=labeled_images --name=nuclei \
    --source=../shared/data/nuclei
taskset -c 0 python benchmarks/learning_curve.py --workdirs=workdirs/curve \
    --base=solov2_nuclei.py --sizes=16,60,200,597 --minutes=5
python benchmarks/learning_curve.py --workdirs=workdirs/curve \
    --base=solov2_nuclei.py --sizes=16,60 --minutes=5 --mix=copy_paste
python benchmarks/learning_curve.py --workdirs=workdirs/photographs \
    --base=mask_rcnn_nuclei.py --images=solov2_own_data.py:short_side=192 \
    --start=lite0 --backbone_factor=0.25 --dataset=coco_instances/two_classes \
    --sizes=16,45 --minutes=12

Each run takes the first images of the train split, and as many steps as fill
the CPU minutes (without compilation and evaluation). `--start` selects the
backbone: a small ResNet without weights, or EfficientNet-Lite0 with those of
ImageNet. `--images` replaces the sizes and the augmentation of the images, so
that a network for nuclei trains on photographs. A run that was interrupted
resumes. Writes curve.json, curve.png and a table of all runs in WORKDIRS.
"""

import json
import os
import pathlib

import jax
import matplotlib
import methods_table
import rich.progress
import train_throughput
from absl import app, flags

from solo_jax.data.records import open_records
from solo_jax.scoring.checkpoint import Request, evaluate_checkpoint
from solo_jax.training.loop import train_and_evaluate
from solo_jax.weights import load_config

BASE = flags.DEFINE_string("base", "solov2_nuclei.py", "Config in configs/.")
# The config whose backbone and pixel normalisation each start uses.
STARTS = dict(scratch="solov2_nuclei.py", lite0="solov2_own_data.py")
START = flags.DEFINE_enum("start", "scratch", list(STARTS), "Backbone.")
IMAGES = flags.DEFINE_string(
  "images", None, "Config of the sizes and augmentation; None: BASE."
)
BACKBONE_FACTOR = flags.DEFINE_float(
  "backbone_factor", None, "Factor of its learning rate; None: the config's."
)
DATASET = flags.DEFINE_string("dataset", None, "Records; None: the config's.")
SIZES = flags.DEFINE_list(
  "sizes", ["16", "60", "200", "597"], "Training images."
)
CURVE_MINUTES = flags.DEFINE_float("minutes", 5.0, "CPU minutes per run.")
MIX = flags.DEFINE_enum(
  "mix", "none", ["none", "copy_paste", "mosaic"], "Augmentation at the end."
)
FLAGS = flags.FLAGS
# Not named in the legend.
DEFAULTS = ("scratch", "none")


def make_config(base: str, num_images: int, steps: int | None):
  """Returns a config for the first images, with the flags' start and mixing."""
  if steps is not None:
    base += f"{',' if ':' in base else ':'}steps={steps}"
  config = methods_table.with_data(load_config(base))
  if DATASET.value is not None:
    records = open_records(FLAGS.data_dir, DATASET.value, "train")
    config.dataset.name = DATASET.value
    config.dataset.num_classes = len(records.class_names)
  config.dataset.train_split = f"train[:{num_images}]"
  if IMAGES.value is not None:
    images = load_config(IMAGES.value)
    config.preprocessing = images.preprocessing
    config.transforms.image_size = images.transforms.image_size
    config.transforms.augment = images.transforms.augment
  if BACKBONE_FACTOR.value is not None:
    config.optimizer.backbone_factor = BACKBONE_FACTOR.value
  donor = load_config(STARTS[START.value])
  with config.unlocked():
    config.backbone = donor.backbone
  config.preprocessing.mean = donor.preprocessing.mean
  config.preprocessing.std = donor.preprocessing.std
  if MIX.value != "none":
    mix = (MIX.value, dict(probability=0.5))
    config.transforms.augment = (*config.transforms.augment, mix)
  return config


def run(base: str, num_images: int) -> dict:
  """Trains and evaluates one point of the curve, or resumes it."""
  config = make_config(base, num_images, None)
  name = f"{config.method}_{num_images}_{START.value}_{MIX.value}"
  folder = pathlib.Path(FLAGS.workdirs) / name
  if not (folder / "steps").exists():
    used = train_throughput.measure_loop(config, methods_table.PROBE_STEPS)
    steps = methods_table.count_steps(CURVE_MINUTES.value, used["process_ms"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "steps").write_text(str(steps))
  steps = int((folder / "steps").read_text())
  train_and_evaluate(make_config(base, num_images, steps), str(folder))
  with rich.progress.Progress(disable=True) as progress:
    metrics = evaluate_checkpoint(
      Request(path=str(folder), data_dir=FLAGS.data_dir), progress
    )
  return dict(
    folder=name,
    method=config.method,
    images=num_images,
    start=START.value,
    mix=MIX.value,
    minutes=CURVE_MINUTES.value,
    steps=steps,
    mask_AP=metrics.mask_AP,
    mask_AP50=metrics.mask_AP50,
  )


def draw(points: list[dict], path: pathlib.Path) -> None:
  """Draws one line per method, start and mixing."""
  matplotlib.use("Agg")
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(figsize=(7.6, 3.6), dpi=130)
  lines = {}
  for x in points:
    parts = (x["method"], x["start"], x["mix"])
    label = ", ".join(part for part in parts if part not in DEFAULTS)
    lines.setdefault(label, []).append((x["images"], x["mask_AP"]))
  for label, line in sorted(lines.items()):
    axes.plot(*zip(*sorted(line), strict=True), marker="o", label=label)
  top = 1.1 * max(x["mask_AP"] for x in points)
  axes.set(xscale="log", xlabel="training images", ylabel="mask AP")
  axes.set_ylim(0, top or 1)
  ticks = sorted({x["images"] for x in points})
  axes.set_xticks(ticks, map(str, ticks), minor=False)
  axes.set_xticks([], minor=True)
  axes.grid(alpha=0.3)
  axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
  figure.tight_layout()
  figure.savefig(path)


def main(argv: list[str]) -> None:
  """Runs the points that the flags ask for; writes the table of all points."""
  del argv
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  folder = pathlib.Path(FLAGS.workdirs)
  folder.mkdir(parents=True, exist_ok=True)
  saved = folder / "curve.json"
  points = json.loads(saved.read_text()) if saved.exists() else []
  for size in map(int, SIZES.value):
    point = run(BASE.value, size)
    same = [x for x in points if x["folder"] == point["folder"]]
    points = [x for x in points if x not in same] + [point]
    saved.write_text(json.dumps(points, indent=1))
    draw(points, folder / "curve.png")
    print(point, flush=True)
    jax.clear_caches()
  print("| method | start | mixing | images | steps | mask AP | AP50 |")
  for x in points:
    print(
      f"| {x['method']} | {x['start']} | {x['mix']} | {x['images']} "
      f"| {x['steps']:,} | {x['mask_AP']:.3f} | {x['mask_AP50']:.3f} |"
    )


if __name__ == "__main__":
  app.run(main)
