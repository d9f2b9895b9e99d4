r"""CPU time per image of the native predictor and its exports.

Exports a checkpoint, loads it with the exported predictor.py, and runs all
predictors alternately on the same images, drawn scenes or those of a folder:

XLA_FLAGS=--xla_cpu_multi_thread_eigen=false OMP_NUM_THREADS=1 \
    JAX_PLATFORMS=cpu taskset -c 1 \
    python benchmarks/export_latency.py --checkpoint=workdirs/solov2_shapes
"""

import importlib.util
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import rich.console
import rich.table
from absl import app, flags, logging

from solo_jax.api import Predictor
from solo_jax.checkpoints import store
from solo_jax.data.records import decode_image
from solo_jax.data.shapes import draw_scene
from solo_jax.exporting.writer import export_checkpoint

_CHECKPOINT = flags.DEFINE_string(
  "checkpoint", None, "Work folder of a run.", required=True
)
_IMAGES = flags.DEFINE_string("images", None, "Folder of images.")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 10, "Images to use.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Rounds; the fastest counts.")
_ONNX = flags.DEFINE_bool("onnx", False, "Time ONNX Runtime too.")


def read_images() -> list[np.ndarray]:
  """Returns the images to run. [H, W, 3] uint8 each."""
  if _IMAGES.value is None:
    rngs = map(np.random.default_rng, range(_NUM_IMAGES.value))
    return [draw_scene(rng).image for rng in rngs]
  paths = sorted(pathlib.Path(_IMAGES.value).glob("*.jpg"))
  return [decode_image(p.read_bytes()) for p in paths[: _NUM_IMAGES.value]]


def load_predictor(folder: pathlib.Path, runtime: str) -> Callable:
  """Loads an export with the Python file that it contains."""
  spec = importlib.util.spec_from_file_location(
    "exported", folder / "predictor.py"
  )
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module.Predictor(folder, runtime=runtime)


def cpu_ms(run: Callable, images: list[np.ndarray]) -> list[float]:
  """Returns the CPU time of the process per image."""
  times = []
  for image in images:
    start = time.process_time()
    run(image)
    times.append(1e3 * (time.process_time() - start))
  return times


def main(_) -> None:
  """Prints a table and a JSON line."""
  logging.set_verbosity(logging.ERROR)
  checkpoint = store.load(_CHECKPOINT.value)
  images = read_images()
  largest = tuple(np.max([x.shape[:2] for x in images], axis=0).tolist())
  runs = {"native": Predictor.from_checkpoint(_CHECKPOINT.value)}
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder) / "exported"
    # The native predictor pads each image as little as possible, and so do
    # these.
    sizes = sorted({runs["native"].padded_size(x.shape[:2]) for x in images})
    tile = checkpoint.config.preprocessing.tile_size
    export_checkpoint(
      checkpoint,
      folder,
      input_sizes=sizes if tile is None else None,
      image_size=largest if tile is None else None,
      onnx=_ONNX.value,
    )
    megabytes = sum(p.stat().st_size for p in folder.iterdir()) / 1e6
    for runtime in ("jax", "onnx") if _ONNX.value else ("jax",):
      runs[f"exported, {runtime}"] = load_predictor(folder, runtime)
    first, best = {}, {}
    for name, run in runs.items():
      first[name] = sum(cpu_ms(run, images))
    for _ in range(_REPEATS.value):
      for name, run in runs.items():
        times = cpu_ms(run, images)
        best[name] = np.minimum(times, best.setdefault(name, times))
  table = rich.table.Table(
    "predictor", "CPU ms per image", "first round, CPU s"
  )
  result = dict(
    checkpoint=checkpoint.config.method,
    images=len(images),
    inputs=sizes,
    export_megabytes=round(megabytes, 1),
  )
  for name, times in best.items():
    result[name] = round(float(np.mean(times)), 1)
    table.add_row(name, f"{result[name]:.1f}", f"{first[name] / 1e3:.1f}")
  rich.console.Console().print(table)
  print(json.dumps(result))


if __name__ == "__main__":
  app.run(main)
