r"""CPU time of SOLOv2's stages, compared with PyTorch.

One core and one thread, so that CPU times are comparable; if torch is
installed, both networks (same weights) and both decoders (same inputs) run
alternately:

XLA_FLAGS=--xla_cpu_multi_thread_eigen=false OMP_NUM_THREADS=1 \
    JAX_PLATFORMS=cpu taskset -c 1 \
    python benchmarks/solov2.py --size=512x512 --train
"""

import functools
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import rich.console
import rich.table
import solov2_scene
from absl import app, flags
from ml_collections import config_flags

from solo_jax import building, parallel, types
from solo_jax.checkpoints import state
from solo_jax.conversion import mapping, mmdet
from solo_jax.data import batching, mask_frames
from solo_jax.evaluation import rle
from solo_jax.inference import masks
from solo_jax.training import setup, step

try:
  import torch
  import torch_decode
  import torch_network
except ModuleNotFoundError:
  torch = None

_CONFIG = config_flags.DEFINE_config_file(
  "config", "configs/solov2_coco.py", "A SOLOv2 config."
)
_SIZE = flags.DEFINE_string("size", "512x512", "Network input, HEIGHTxWIDTH.")
_NUM_CANDIDATES = flags.DEFINE_integer(
  "num_candidates", 300, "(cell, class) pairs above the score threshold."
)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Runs; the fastest counts.")
_NETWORK = flags.DEFINE_bool("network", True, "Time the forward pass.")
_TRAIN = flags.DEFINE_bool("train", False, "Time the training step (slow).")

ORIGINAL_SIDE = 640  # long side of the original image, as in COCO
MAX_SIDE = 1333  # valid pixels of the network input, as published
DECODE = "decode"
TO_ORIGINAL = "masks to original size"
NETWORK = "network"
TORCH = "decode + to original size, PyTorch"
TORCH_NETWORK = "network, PyTorch"


def run_in_turns(
  works: dict[str, Callable[[], object]], repeats: int
) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
  """Times functions A B A B.

  Args:
    works: What to run. The first run of each, which compiles, is not timed.
    repeats: Timed runs of each.

  Returns:
    The least CPU and wall time of each in ms, and what each returned last.
  """
  results = {name: work() for name, work in works.items()}
  times = {name: {"cpu_ms": np.inf, "wall_ms": np.inf} for name in works}
  for _ in range(repeats):
    for name, work in works.items():
      cpu, wall = time.process_time(), time.perf_counter()
      results[name] = work()
      cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
      best = times[name]
      best["cpu_ms"] = min(best["cpu_ms"], 1e3 * cpu)
      best["wall_ms"] = min(best["wall_ms"], 1e3 * wall)
  return times, results


def measure_network(config, size: tuple[int, int]) -> dict:
  """Times the forward pass and, if asked, the training step."""
  num_images = jax.local_device_count() if _TRAIN.value else 1
  sample = solov2_scene.make_sample(size, num_instances=10)
  rule = config.transforms
  row = batching.make_example(
    sample,
    image_size=size,
    mask_frame=mask_frames.from_settings(rule),
    max_instances=rule.max_instances,
    min_mask_area=rule.min_mask_area,
  )
  batch = types.Batch(
    **jax.tree.map(lambda x: np.stack([x] * num_images), row),
    row=np.arange(num_images, dtype=np.int32),
  )
  method = building.build_method(config, axis_name=parallel.AXIS_NAME)
  variables = state.init_variables(method.network, image_size=size, seed=0)
  times = {}
  if _NETWORK.value:
    times |= measure_forward(config, method.network, variables, batch)
  if _TRAIN.value:
    times |= measure_train_step(config, method, variables, batch)
  return times


def measure_forward(config, network, variables, batch: types.Batch) -> dict:
  """Times the forward pass, and PyTorch's alternately for its own R50."""
  forward = jax.jit(functools.partial(network.apply, train=False))
  image, image_size = jax.device_put((batch.image[:1], batch.image_size[:1]))
  backbone = config.backbone
  in_torch = (
    torch is not None
    and jax.default_backend() == "cpu"
    and tuple(backbone.stage_sizes or ()) == (3, 4, 6, 3)
    and backbone.block == "bottleneck"
  )
  works = {}
  if in_torch:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch_solov2 = torch_network.SOLOv2(config.dataset.num_classes).eval()
    weights = {k: v.numpy() for k, v in torch_solov2.state_dict().items()}
    variables = mapping.convert(weights, mmdet.SOLOV2, variables)
    mean, std = config.preprocessing.mean, config.preprocessing.std
    pixels = (batch.image[:1] - np.float32(mean)) / np.float32(std)
    height, width = batch.image_size[0]
    pixels[:, height:], pixels[:, :, width:] = 0, 0
    pixels = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    works[TORCH_NETWORK] = torch.inference_mode()(lambda: torch_solov2(pixels))
  variables = jax.device_put(variables)
  works[NETWORK] = lambda: jax.block_until_ready(
    forward(variables, image, image_size)
  )
  times, results = run_in_turns(works, min(3, _REPEATS.value))
  if in_torch:
    check_outputs(results[NETWORK], results[TORCH_NETWORK])
  return times


def check_outputs(outputs, torch_outputs) -> None:
  """Checks that both networks computed the same.

  Raises:
    ValueError: If an output differs by more than 1e-3 of its largest value.
  """
  logits, kernels, feature = torch_outputs
  theirs = [
    x.numpy().transpose(0, 2, 3, 1) for x in (*logits, *kernels, feature)
  ]
  ours = (*outputs.category_logits, *outputs.kernel, outputs.mask_feature)
  for x, y in zip(ours, theirs, strict=True):
    error = float(np.abs(np.asarray(x) - y).max() / np.abs(y).max())
    if error > 1e-3:
      raise ValueError(f"solo_jax and PyTorch differ by {error} of {y.shape}")


def measure_train_step(config, method, variables, batch: types.Batch) -> dict:
  """Times forward, backward and update with one image per device."""
  optimizer, learning_rate = setup.build_optimizer(
    config, variables["params"], config.optimizer.learning_rate
  )
  train_step = parallel.map_step(
    step.make_train_step(
      method,
      optimizer,
      learning_rate,
      accumulate=1,
      ema_decay=config.optimizer.ema_decay,
      axis_name=parallel.AXIS_NAME,
      seed=config.seed,
    )
  )
  train_state = parallel.replicate(
    state.create_train_state(
      variables, optimizer, use_ema=config.optimizer.ema_decay is not None
    )
  )
  batch = parallel.split_batch(batch)

  def train():
    nonlocal train_state
    train_state, metrics = train_step(train_state, batch)
    return jax.block_until_ready(metrics)

  times, results = run_in_turns({"training step": train}, 2)
  loss = float(results["training step"]["loss"])
  if not np.isfinite(loss):
    raise ValueError(f"the training step gave the loss {loss}")
  return times


def measure_decode(config, size: tuple[int, int]) -> tuple[dict, dict]:
  """Times decoding to RLE, alternating with PyTorch where that is installed.

  Returns:
    (times by stage, what else there is to report).
  """
  height, width = size
  image_size = (height, min(width, MAX_SIDE))
  scale = ORIGINAL_SIDE / max(image_size)
  original_size = tuple(round(scale * n) for n in image_size)
  network, threshold = config.network, config.decode.mask_threshold
  outputs = solov2_scene.make_outputs(
    size,
    num_candidates=_NUM_CANDIDATES.value,
    num_classes=config.dataset.num_classes,
    num_grids=network.num_grids,
    kernel_channels=network.kernel_channels,
    mask_stride=network.mask_stride,
  )
  device_outputs = jax.device_put(outputs)
  sizes = np.array([image_size], np.int32)
  decode = jax.jit(building.build_method(config).decode)
  detected = None  # each stage hands on to the next

  def run_decode():
    nonlocal detected
    detected = jax.device_get(decode(device_outputs, sizes))
    return detected

  def run_masks():
    return masks.masks_to_original(
      detected.masks.probs[0, detected.valid[0]],
      mask_stride=network.mask_stride,
      image_size=image_size,
      original_size=original_size,
      threshold=threshold,
    )

  works = {DECODE: run_decode, TO_ORIGINAL: run_masks}
  if torch is not None and jax.default_backend() == "cpu":
    works[TORCH] = make_torch_work(config, outputs, image_size, original_size)
  times, results = run_in_turns(works, _REPEATS.value)
  encode = {"RLE encoding": lambda: rle.encode(*results[TO_ORIGINAL])}
  times |= run_in_turns(encode, _REPEATS.value)[0]
  report = {
    "candidates": count_candidates(config, outputs),
    "detections": int(detected.valid.sum()),
    "original_size": original_size,
  }
  if TORCH in works:
    report |= compare(times, detected, results[TO_ORIGINAL][0], results[TORCH])
  return times, report


def make_torch_work(config, outputs, image_size, original_size) -> Callable:
  """Prepares the same decoding in PyTorch, on one thread."""
  torch.set_num_threads(1)

  def channels_first(x):
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))

  names = "score_threshold mask_threshold nms_candidates nms_sigma "
  names += "update_threshold max_detections"
  return functools.partial(
    torch_decode.decode,
    [channels_first(x) for x in outputs.category_logits],
    [channels_first(x) for x in outputs.kernel],
    channels_first(outputs.mask_feature),
    strides=config.network.strides,
    mask_stride=config.network.mask_stride,
    image_size=image_size,
    original_size=original_size,
    **{name: config.decode[name] for name in names.split()},
  )


def count_candidates(config, outputs) -> int:
  """Counts the (cell, class) pairs above the threshold, dropped ones too."""
  config = config.copy_and_resolve_references()
  config.decode.max_candidates = 1
  decode = building.build_method(config).decode
  return 1 + int(jax.jit(decode)(outputs, None).num_dropped[0])


def compare(times, detected, jax_masks, torch_result) -> dict:
  """Checks that both decoders agree and divides their CPU times.

  Raises:
    ValueError: If labels, scores (1e-3) or masks (mean IoU 0.99) differ.
  """
  torch_masks, scores, labels = (x.numpy() for x in torch_result)
  valid = detected.valid[0]
  if not np.array_equal(detected.labels[0, valid], labels):
    raise ValueError("solo_jax and PyTorch decoded different labels")
  score_error = float(np.abs(detected.scores[0, valid] - scores).max())
  both = np.logical_and(jax_masks, torch_masks).sum((1, 2))
  either = np.logical_or(jax_masks, torch_masks).sum((1, 2))
  mask_iou = float(np.mean(both / np.maximum(either, 1)))
  if score_error > 1e-3 or mask_iou < 0.99:
    raise ValueError(
      f"solo_jax and PyTorch disagree: scores differ by up to {score_error}, "
      f"masks have a mean IoU of {mask_iou}"
    )
  ours = times[DECODE]["cpu_ms"] + times[TO_ORIGINAL]["cpu_ms"]
  return {
    "jax_over_torch": ours / times[TORCH]["cpu_ms"],
    "largest_score_difference": score_error,
    "mask_iou": mask_iou,
  }


def describe_run() -> dict[str, Any]:
  """Returns what ran where."""
  variables = ("XLA_FLAGS", "OMP_NUM_THREADS", "JAX_PLATFORMS")
  settings = [f"{v}={os.environ[v]}" for v in variables if v in os.environ]
  command = ["python", *sys.argv]
  versions = {"python": platform.python_version(), "jax": jax.__version__}
  if torch is not None:
    versions["torch"] = torch.__version__
  return {
    "command": " ".join([*settings, shlex.join(command)]),
    "hardware": f"{jax.device_count()} x {jax.devices()[0].device_kind}; "
    f"{cpu_model()}, {len(os.sched_getaffinity(0))} core(s) used",
    "versions": versions,
  }


def cpu_model() -> str:
  """Returns the name of the host's processor."""
  if os.path.exists("/proc/cpuinfo"):
    with open("/proc/cpuinfo") as lines:
      for line in lines:
        if line.startswith("model name"):
          return line.partition(":")[2].strip()
  return platform.processor() or platform.machine()


def main(_) -> None:
  size = tuple(int(n) for n in _SIZE.value.split("x"))
  config = _CONFIG.value
  times, report = measure_decode(config, size)
  if _NETWORK.value or _TRAIN.value:
    times = measure_network(config, size) | times
  table = rich.table.Table(
    "stage",
    "CPU-ms",
    "wall-ms",
    title=f"SOLOv2, {_SIZE.value}, {report['candidates']} candidates",
  )
  for stage, best in times.items():
    table.add_row(stage, f"{best['cpu_ms']:.1f}", f"{best['wall_ms']:.1f}")
  console = rich.console.Console()
  console.print(table)
  if "jax_over_torch" in report:
    console.print(
      f"decode + to original size, CPU time of solo_jax / PyTorch: "
      f"{report['jax_over_torch']:.2f}"
    )
  elif torch is None:
    console.print("torch is not installed: nothing to compare with.")
  else:
    console.print("Compared with PyTorch on a CPU only (JAX_PLATFORMS=cpu).")
  if TORCH_NETWORK in times and TORCH in times:
    stages = (NETWORK, DECODE, TO_ORIGINAL), (TORCH_NETWORK, TORCH)
    ours, theirs = (sum(times[s]["cpu_ms"] for s in names) for names in stages)
    report["whole_jax_over_torch"] = ours / theirs
    console.print(
      "network + decode + to original size, CPU time of solo_jax / PyTorch: "
      f"{ours / theirs:.2f}"
    )
  result = {"benchmark": "solov2", "size": size, **describe_run(), **report}
  print(json.dumps({**result, "stages": times}))


if __name__ == "__main__":
  app.run(main)
