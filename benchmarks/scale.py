r"""CPU time and memory as the amount of work grows.

JAX_PLATFORMS=cpu taskset -c 1 python benchmarks/scale.py

tiles      A square image of `--sides`, read in tiles by the predictor of
           --config, with random weights.
instances  One image with `--instances` drawn discs: RLE and COCO metrics.
images     `--images` images with ten of them.
devices    The same 16 images on `--devices` devices of the host, each in a
           process of its own.

The exponent of a row is log(time / time before) / log(work / work before).
Memory is the growth of the process's peak over that part.
"""

import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np
import rich.console
import rich.table
from absl import app, flags
from ml_collections import config_flags

from solo_jax import building, types
from solo_jax.checkpoints import state
from solo_jax.evaluation import coco_metrics

_CONFIG = config_flags.DEFINE_config_file(
  "config", "configs/solov2_nuclei.py", "A config that reads tiles."
)
_PARTS = flags.DEFINE_list(
  "parts", ["tiles", "instances", "images", "devices"], "What to measure."
)
_SIDES = flags.DEFINE_list("sides", [512, 1024, 2048, 4096, 8192], "Pixels.")
_INSTANCES = flags.DEFINE_list(
  "instances", [10, 100, 1000, 3000, 10000], "Instances per image."
)
_IMAGES = flags.DEFINE_list("images", [1, 10, 100, 1000], "Images.")
_DEVICES = flags.DEFINE_list("devices", [1, 2, 4, 8], "Devices of the host.")

RADIUS = 10  # of a disc, pixels
SPACING = 40  # between the centres of discs
NUM_IMAGES = 16  # of the part 'devices'


def make_predictor(devices: Sequence[jax.Device], batch_size: int):
  """Returns the config's predictor with random weights."""
  config = _CONFIG.value
  network = building.build_method(config).network
  variables = state.init_variables(
    network, image_size=tuple(config.transforms.image_size), seed=0
  )
  return building.build_predictor(
    config, variables, batch_size=batch_size, devices=devices
  )


def make_instances(number: int) -> types.Instances:
  """Draws discs on a grid."""
  y, x = np.mgrid[: 2 * RADIUS, : 2 * RADIUS] + 0.5 - RADIUS
  disc = y**2 + x**2 < RADIUS**2
  side = math.ceil(number**0.5)
  corners = np.stack(np.divmod(np.arange(number), side), 1) * SPACING
  boxes = np.concatenate([corners[:, ::-1], corners[:, ::-1] + 2 * RADIUS], 1)
  return types.Instances(
    masks=types.CroppedMasks(
      size=(side * SPACING, side * SPACING),
      corners=corners.tolist(),
      crops=[disc] * number,
    ),
    scores=np.linspace(1, 0.5, number, dtype=np.float32),
    labels=np.zeros(number, np.int32),
    boxes_xyxy=boxes.astype(np.float32),
  )


def score(num_images: int, num_instances: int) -> None:
  """Encodes and evaluates detections that equal their ground truth."""
  images, annotations, results = [], [], []
  for i in range(num_images):
    found = make_instances(num_instances)
    height, width = found.masks.size
    images.append(dict(id=i, file_name="", height=height, width=width))
    results += coco_metrics.to_results(found, i, [1])
  for i, result in enumerate(results, start=1):
    area = result["bbox"][2] * result["bbox"][3]
    annotations.append({**result, "id": i, "area": area, "iscrowd": 0})
  dataset = dict(
    images=images,
    annotations=annotations,
    categories=[dict(id=1, name="disc")],
  )
  metrics = coco_metrics.evaluate(
    dataset, results, max_detections=num_instances
  )
  if metrics.mask_AP < 0.999:
    raise ValueError(f"mask AP of the ground truth itself: {metrics.mask_AP}")


def measure(name: str, sizes: Sequence, run: Callable[[int], None]) -> list:
  """Runs the work of each size once; returns rows of the table."""
  rows, before = [], None
  for size in map(int, sizes):
    peak, start = peak_mib(), time.process_time()
    run(size)
    seconds = time.process_time() - start
    exponent = None
    if before is not None:
      exponent = math.log(seconds / before[1]) / math.log(size / before[0])
    before = size, seconds
    rows.append([name, size, seconds, exponent, peak_mib() - peak])
    print(json.dumps(rows[-1]), flush=True)
  return rows


def peak_mib() -> float:
  """Returns the most memory that this process has had, MiB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_tiles() -> list:
  """Reads square images of noise."""
  predictor = make_predictor(jax.local_devices()[:1], batch_size=4)
  rng = np.random.default_rng(0)

  def run(side):
    image = rng.integers(0, 256, (side, side, 3), np.uint8)
    predictor(image)

  run(512)  # compiles
  return measure("tiles", _SIDES.value, run)


def measure_devices() -> list:
  """Starts a process for each number of devices."""
  rows = []
  for number in map(int, _DEVICES.value):
    count = f" --xla_force_host_platform_device_count={number}"
    command = [sys.executable, *sys.argv, "--parts=on_devices"]
    result = subprocess.run(
      command,
      env=os.environ | {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + count},
      capture_output=True,
      text=True,
      check=True,
    )
    seconds, mib = json.loads(result.stdout.splitlines()[-1])
    rows.append(["devices", number, seconds, None, mib])
    print(json.dumps(rows[-1]), flush=True)
  return rows


def measure_on_devices() -> None:
  """Prints the time of images on all devices and the peak of the process."""
  devices = jax.local_devices()
  predictor = make_predictor(devices, batch_size=1)
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (NUM_IMAGES, 256, 256, 3), np.uint8)
  predictor.predict(images)  # compiles
  start = time.process_time()
  predictor.predict(images)
  print(json.dumps([time.process_time() - start, peak_mib()]))


def main(_) -> None:
  parts = _PARTS.value
  if parts == ["on_devices"]:
    measure_on_devices()
    return
  rows = []
  if "instances" in parts:
    rows += measure("instances", _INSTANCES.value, lambda n: score(1, n))
  if "images" in parts:
    rows += measure("images", _IMAGES.value, lambda n: score(n, 10))
  if "tiles" in parts:
    rows += measure_tiles()
  if "devices" in parts:
    rows += measure_devices()
  table = rich.table.Table("part", "size", "CPU-s", "exponent", "MiB")
  for name, size, seconds, exponent, mib in rows:
    exponent = "" if exponent is None else f"{exponent:.2f}"
    table.add_row(name, str(size), f"{seconds:.3f}", exponent, f"{mib:,.0f}")
  rich.console.Console().print(table)


if __name__ == "__main__":
  app.run(main)
