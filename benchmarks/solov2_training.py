r"""CPU time of SOLOv2-R50's training step, compared with PyTorch.

Both have the same weights, image and instances, and run alternately on one core
and one thread. Losses and gradient norms must agree:

XLA_FLAGS=--xla_cpu_multi_thread_eigen=false OMP_NUM_THREADS=1 \
    JAX_PLATFORMS=cpu taskset -c 1 \
    python benchmarks/solov2_training.py --size=512x512
"""

import json
import statistics
import time

import jax
import network_training
import numpy as np
import solov2
import torch
import torch_training
import training_step
from absl import app, flags

from solo_jax import building, heap, parallel
from solo_jax.checkpoints import state
from solo_jax.conversion import mapping, mmdet

_STEPS = flags.DEFINE_integer("steps", 5, "Timed steps; the median counts.")


def make_jax_step(config, batch, weights):
  """Prepares the step; returns what takes one and returns its metrics."""
  method = building.build_method(config, axis_name=parallel.AXIS_NAME)
  shapes = state.variable_shapes(
    method.network, image_size=batch.image.shape[1:3]
  )
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  variables = mapping.convert(weights, mmdet.SOLOV2, zeros)
  train_step, make_state = training_step.make_step(config, method, variables)
  train_step = parallel.map_step(train_step)
  train_state = parallel.replicate(make_state(variables))
  batch = parallel.split_batch(batch)

  def take_step():
    nonlocal train_state
    train_state, metrics = train_step(train_state, batch)
    return {k: float(metrics[k]) for k in ("loss", "gradient_norm")}

  return take_step


def check(metrics: dict[str, dict[str, float]]) -> None:
  """Checks that both took the same step.

  Raises:
    ValueError: If losses or norms of gradients differ by more than 1 %.
  """
  for key in ("loss", "gradient_norm"):
    ours, theirs = (metrics[name][key] for name in ("solo_jax", "torch"))
    if not np.isclose(ours, theirs, rtol=1e-2):
      raise ValueError(f"solo_jax and PyTorch differ: {metrics}")


def main(_) -> None:
  heap.keep_freed_memory()  # as every command does
  config, size = solov2._CONFIG.value, solov2._SIZE.value
  torch.set_num_threads(1)
  batch = training_step.make_batch(
    config, tuple(int(n) for n in size.split("x")), 1
  )
  weights = network_training.torch_weights(config)
  steps = {
    "solo_jax": make_jax_step(config, batch, weights),
    "torch": torch_training.make_step(config, batch, weights),
  }
  history = []
  for i in range(1 + _STEPS.value):
    metrics = {}
    for name, take_step in steps.items():
      start = time.process_time()
      metrics[name] = take_step()
      metrics[name]["cpu_ms"] = 1e3 * (time.process_time() - start)
    if i < 2:  # later, the rate of one of them rises
      check(metrics)
    history.append(metrics)
    print(json.dumps(metrics), flush=True)
  timed = history[1:]  # the first compiles
  cpu_ms = {
    name: statistics.median(row[name]["cpu_ms"] for row in timed)
    for name in steps
  }
  ratio = statistics.median(
    row["solo_jax"]["cpu_ms"] / row["torch"]["cpu_ms"] for row in timed
  )
  print(f"{size}: {cpu_ms}, solo_jax / torch {ratio:.2f}")
  report = {
    "benchmark": "solov2_training",
    "size": size,
    **solov2.describe_run(),
    "instances": int(batch.valid.sum()),
    "cpu_ms": cpu_ms,
    "ratio": ratio,
  }
  print(json.dumps(report))


if __name__ == "__main__":
  app.run(main)
