r"""CPU time and page faults of a training step, with freed memory kept or not.

Both run in separate processes, because the setting cannot be undone:

JAX_PLATFORMS=cpu taskset -c 1 python benchmarks/freed_memory.py \
    --config=configs/solov2_shapes.py --batch_size=4

Commands on one core keep freed memory (`solo_jax/heap.py`).
GLIBC_TUNABLES=glibc.malloc.hugetlb=1 adds large pages, as the Makefile does.
"""

import json
import resource
import statistics
import subprocess
import sys

import training_step
from absl import app, flags
from ml_collections import config_flags

from solo_jax import building, heap, parallel
from solo_jax.checkpoints import state

_CONFIG = config_flags.DEFINE_config_file(
  "config", "configs/solov2_shapes.py", "A config."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Images per step.")
_STEPS = flags.DEFINE_integer("steps", 40, "Timed steps; the mean counts.")
_KEEP = flags.DEFINE_bool("keep", None, "Measure one of the two; None: both.")


def usage() -> tuple[float, float, int]:
  """Returns the user and system CPU-ms and the page faults of this process."""
  used = resource.getrusage(resource.RUSAGE_SELF)
  return 1e3 * used.ru_utime, 1e3 * used.ru_stime, used.ru_minflt


def measure() -> dict[str, float]:
  """Returns the mean of the timed steps, and the peak of the process."""
  config = _CONFIG.value
  size = tuple(config.transforms.image_size)
  method = building.build_method(config, axis_name=parallel.AXIS_NAME)
  variables = state.init_variables(method.network, image_size=size, seed=0)
  step, make_state = training_step.make_step(config, method, variables)
  step = parallel.map_step(step)
  train_state = parallel.replicate(make_state(variables))
  batch = training_step.make_batch(config, size, _BATCH_SIZE.value)
  batch = parallel.split_batch(batch)
  rows = []
  for _ in range(1 + _STEPS.value):
    before = usage()
    train_state, metrics = step(train_state, batch)
    float(metrics["loss"])
    rows.append([y - x for x, y in zip(before, usage(), strict=True)])
  timed = zip(*rows[1:], strict=True)  # the first compiles
  names = ("user_ms", "system_ms", "page_faults")
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  return dict(zip(names, map(statistics.mean, timed), strict=True)) | {
    "peak_mib": peak
  }


def main(_) -> None:
  if _KEEP.value is None:
    for flag in ("--nokeep", "--keep"):
      subprocess.run([sys.executable, *sys.argv, flag], check=True)
    return
  if _KEEP.value:
    heap.keep_freed_memory()
  print(json.dumps(dict(keep=_KEEP.value) | measure()), flush=True)


if __name__ == "__main__":
  app.run(main)
