r"""Images per second of training, and the host's overhead.

loop       The complete training (loop, pipeline and step) on prepared records:
           images/s, share of the time in which the devices wait for data, CPU
           time of the loop's thread per step.
overhead   A mapped step that takes the complete state of the config and
           computes nothing: what starting a step costs the host.
step       The training step alone, on a drawn batch: images/s, and on a known
           accelerator model FLOPs utilisation.
network    Forward, backward and SGD of the network alone, alternating with the
           same in PyTorch (torch.compile on a GPU) if it is installed and the
           network is SOLOv2-R50.

python -m solo_jax.prepare --dataset=shapes --data_dir=data
python benchmarks/train_throughput.py --config=configs/solov2_shapes.py
python benchmarks/train_throughput.py --config=configs/solov2_coco.py \
    --measure=overhead
python benchmarks/train_throughput.py --config=configs/solov2_coco.py \
    --config.training.precision=bfloat16 --measure=step,network

Figures are in docs/scaling.md. Utilisation is the multiplications and
additions of the step, without those of remat, over the bfloat16 peak of the
devices' data sheets. They are counted in a step of one micro-batch, whatever
optimizer.accumulate is, as XLA counts a loop once.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import network_training
import numpy as np
import rich.console
import rich.table
import training_step
from absl import app, flags
from ml_collections import config_flags

from solo_jax import building, parallel
from solo_jax.checkpoints import state
from solo_jax.checkpoints.store import CheckpointWriter
from solo_jax.training import setup
from solo_jax.training.logging import RunLog, read_rows
from solo_jax.training.run import Run
from solo_jax.training.stopping import StopRequest

MEASUREMENTS = ("loop", "overhead", "step", "network")

_CONFIG = config_flags.DEFINE_config_file(
  "config", "configs/solov2_shapes.py", "A config."
)
_MEASURE = flags.DEFINE_list(
  "measure", ["loop", "overhead"], f"Any of {', '.join(MEASUREMENTS)}."
)
_STEPS = flags.DEFINE_integer("steps", 60, "Steps of each measurement.")

# Steps at the start that do not count: compilation, filling of the buffers.
WARM_UP = 10
# Dense bfloat16, in 1e12 operations per second: https://www.nvidia.com (H100
# SXM, H200, A100), https://cloud.google.com/tpu/docs (per chip). The keys are
# the first words of JAX's name for the device kind.
PEAK_TFLOPS = {
  "NVIDIA H100": 989.0,
  "NVIDIA H200": 989.0,
  "NVIDIA A100": 312.0,
  "TPU v4": 275.0,
  "TPU v5 lite": 197.0,
  "TPU v5": 459.0,
  "TPU v6 lite": 918.0,
}


def measure_loop(config, num_steps: int) -> dict[str, float]:
  """Trains on the records of a config without saving or evaluating.

  Args:
    config: The whole configuration.
    num_steps: Steps; the first half does not count.

  Returns:
    'images_per_second', 'data_wait' (share of the time), 'host_ms' (CPU time
    of the loop's thread per step) and 'process_ms' (of all threads).
  """
  config = config.copy_and_resolve_references()
  config.training.update(
    num_steps=num_steps,
    log_every_steps=num_steps // 2,
    checkpoint_every_steps=num_steps + 1,
    eval_every_steps=0,
    picture_every_steps=0,
  )
  method = building.build_method(config, axis_name=parallel.AXIS_NAME)
  variables = state.init_variables(
    method.network, image_size=config.transforms.image_size, seed=config.seed
  )
  train_step, make_state = training_step.make_step(config, method, variables)
  records = setup.open_data(config, config.dataset.train_split)
  batches = setup.iterate_batches(config, records, 0)
  marks = []  # (CPU time of this thread, of the process) at each batch
  with tempfile.TemporaryDirectory() as workdir, StopRequest() as stop:
    log = RunLog(workdir, first_step=0)
    writer = CheckpointWriter(
      workdir,
      config=config,
      class_names=records.class_names,
      category_ids=records.category_ids,
      data=setup.describe_data(records),
    )
    run = Run(config, writer, log, eval_records=None)
    try:
      run.take_steps(
        parallel.replicate(make_state(variables)),
        train_step,
        timed(batches, marks),
        stop,
      )
    finally:
      batches.close()
      writer.close()
      log.close()
    rows = read_rows(os.path.join(workdir, "metrics.jsonl"))[1:]
  used = np.diff(marks[num_steps // 2 :], axis=0).mean(axis=0) * 1e3
  return {
    "images_per_second": np.mean([r["train/images_per_second"] for r in rows]),
    "data_wait": np.mean([r["train/data_wait"] for r in rows]),
    "host_ms": used[0],
    "process_ms": used[1],
  }


def timed(batches: Iterator, marks: list[tuple[float, float]]) -> Iterator:
  """Passes batches on and notes the CPU times at which each is taken."""
  for batch in batches:
    marks.append((time.thread_time(), time.process_time()))
    yield batch


def measure_overhead(config, num_steps: int) -> dict[str, float]:
  """Starts steps that hand the state on and compute nothing.

  Args:
    config: The whole configuration.
    num_steps: Steps.

  Returns:
    'parameters' and 'arrays' of the state, and 'host_ms', CPU time of the
    thread that starts them for a step: the least, as other work on the
    machine only adds to it, and the 'host_ms_median'.
  """
  method = building.build_method(config, axis_name=parallel.AXIS_NAME)
  variables = jax.tree.map(
    lambda x: np.zeros(x.shape, x.dtype),
    state.variable_shapes(
      method.network, image_size=config.transforms.image_size
    ),
  )
  _, make_state = training_step.make_step(config, method, variables)
  train_state = parallel.replicate(make_state(variables))
  num_arrays = len(jax.tree.leaves(train_state))
  num_devices = jax.local_device_count()
  batch = parallel.split_batch(np.zeros(num_devices, np.float32))

  def hand_on(train_state, batch):
    mean = jax.lax.pmean(jnp.mean(batch), parallel.AXIS_NAME)
    return train_state.replace(step=train_state.step + 1), mean

  mapped_step = parallel.map_step(hand_on)
  times = []
  for _ in range(WARM_UP + num_steps):
    start = time.thread_time()
    train_state, mean = mapped_step(train_state, batch)
    times.append(1e3 * (time.thread_time() - start))
    mean.block_until_ready()
  return {
    "parameters": state.count_parameters(variables["params"]),
    "arrays": num_arrays,
    "host_ms": min(times[WARM_UP:]),
    "host_ms_median": float(np.median(times[WARM_UP:])),
  }


def measure_step(config, num_steps: int) -> dict[str, float]:
  """Takes training steps on one drawn batch that stays on the devices.

  Args:
    config: The whole configuration.
    num_steps: Steps.

  Returns:
    'images_per_second', 'step_ms' and, as `utilization` returns it, 'mfu'.
  """
  image_size = tuple(config.transforms.image_size)
  batch_size = config.training.batch_size
  method = building.build_method(config, axis_name=parallel.AXIS_NAME)
  variables = state.init_variables(
    method.network, image_size=image_size, seed=config.seed
  )
  train_step, make_state = training_step.make_step(config, method, variables)
  mapped_step = parallel.map_step(train_step)
  batch = parallel.split_batch(
    training_step.make_batch(config, image_size, batch_size)
  )
  train_state = parallel.replicate(make_state(variables))

  def take_step():
    nonlocal train_state
    train_state, metrics = mapped_step(train_state, batch)
    return metrics["loss"]

  seconds = seconds_a_step(take_step, num_steps)
  plain = config.copy_and_resolve_references()
  plain.backbone.remat = ()
  plain.optimizer.accumulate = 1
  num_devices = jax.local_device_count()
  lowered = training_step.lower_for_shapes(
    plain, image_size, batch_size // num_devices
  )
  return {
    "images_per_second": batch_size / seconds,
    "step_ms": 1e3 * seconds,
    "mfu": utilization(count_flops(lowered), seconds),
  }


def measure_network(config, num_steps: int) -> dict[str, float]:
  """Trains the network alone on a constant loss, alternating with PyTorch's."""
  image_size = tuple(config.transforms.image_size)
  batch_size = config.training.batch_size
  batch = training_step.make_batch(config, image_size, batch_size)
  take_step, lowered = network_training.make_jax_step(config, batch)
  works = {"solo_jax": take_step}
  if network_training.is_in_torch(config):
    works["PyTorch"] = network_training.make_torch_step(config, batch)
  else:
    print("PyTorch is not installed or has no such network: not compared.")
  first = {name: float(work()) for name, work in works.items()}
  network_training.check_losses(first, config.training.precision)
  flops = count_flops(lowered)
  result = {"first_loss": first["solo_jax"]}
  for name, work in works.items():
    seconds = seconds_a_step(work, num_steps)
    result[f"images_per_second, {name}"] = batch_size / seconds
    result[f"mfu, {name}"] = utilization(flops, seconds)
  return result


def seconds_a_step(take_step: Callable[[], Any], num_steps: int) -> float:
  """Measures the wall time of consecutive steps.

  Args:
    take_step: Starts a step; returns a scalar that is there when it is done.
    num_steps: Steps, after a few that are not timed.

  Returns:
    Mean seconds per step.
  """
  for _ in range(min(WARM_UP, num_steps)):
    loss = float(take_step())
  start = time.perf_counter()
  for _ in range(num_steps):
    loss = take_step()
  loss = float(loss)  # waits for all of them
  seconds = time.perf_counter() - start
  if not np.isfinite(loss):
    raise ValueError(f"the step gave the loss {loss}")
  return seconds / num_steps


def count_flops(lowered: jax.stages.Lowered) -> float:
  """Counts multiplications and additions of a program on one device.

  Of the program as written, before a compiler replaces convolutions by calls
  that it cannot count. Loops count once, and of the losses a small part is in
  loops.
  """
  return lowered.cost_analysis()["flops"]


def utilization(flops: float, seconds: float) -> float | None:
  """Divides a device's operations per second by its bfloat16 peak.

  Args:
    flops: Operations per step on one device.
    seconds: Per step.

  Returns:
    The share, None on a device whose peak is not listed.
  """
  kind = jax.local_devices()[0].device_kind
  peaks = [PEAK_TFLOPS[x] for x in PEAK_TFLOPS if kind.startswith(x)]
  return flops / seconds / (peaks[0] * 1e12) if peaks else None


def main(_) -> None:
  config = _CONFIG.value
  unknown = set(_MEASURE.value) - set(MEASUREMENTS)
  if unknown:
    raise app.UsageError(f"--measure: unknown {sorted(unknown)}")
  functions = {
    "loop": measure_loop,
    "overhead": measure_overhead,
    "step": measure_step,
    "network": measure_network,
  }
  device = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
  table = rich.table.Table("measurement", "quantity", "value", title=device)
  result = {"benchmark": "train_throughput", "device": device}
  for name in _MEASURE.value:
    result[name] = functions[name](config, _STEPS.value)
    for quantity, value in result[name].items():
      shown = "not known" if value is None else f"{value:,.3f}"
      table.add_row(name, quantity, shown)
  rich.console.Console().print(table)
  print(json.dumps(result, default=float))


if __name__ == "__main__":
  app.run(main)
