r"""CPU time of Mask R-CNN R50-FPN, pixels to pasted masks, and torchvision's.

Same weights (torchvision's random ones, classes made distinct so that there are
detections), same image, one core and one thread, runs alternating:

XLA_FLAGS=--xla_cpu_multi_thread_eigen=false OMP_NUM_THREADS=1 \
    JAX_PLATFORMS=cpu taskset -c 1 python benchmarks/mask_rcnn.py

Needs torch and torchvision, which this project does not install.
"""

import pathlib
import runpy
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torchvision
from absl import app, flags

from solo_jax.building import build_method, build_predictor
from solo_jax.checkpoints.state import variable_shapes
from solo_jax.conversion.mapping import convert
from solo_jax.conversion.regions import TORCHVISION_MASK_RCNN
from solo_jax.methods.regions.anchors import STRIDES
from solo_jax.methods.regions.pyramid import pool_boxes

_REPEATS = flags.DEFINE_integer("repeats", 3, "Runs; the fastest counts.")

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "mask_rcnn_coco.py"
IMAGE_SIZE = 600, 1000  # becomes 800 x 1333, padded to 800 x 1344
NETWORK_SIZE = 800, 1344
NUM_BOXES = 1000
DISTINCT = 40  # factor of the class head's weights


def time_in_turns(
  works: dict[str, Callable[[], object]], repeats: int
) -> dict[str, tuple[float, float]]:
  """Returns the least CPU and wall time of each function in ms."""
  for work in works.values():
    work()  # compiles
  times = {name: (np.inf, np.inf) for name in works}
  for _ in range(repeats):
    for name, work in works.items():
      cpu, wall = time.process_time(), time.perf_counter()
      work()
      found = time.process_time() - cpu, time.perf_counter() - wall
      times[name] = tuple(np.minimum(times[name], np.multiply(1e3, found)))
  return times


def make_networks():
  """Returns torchvision's model and our predictor with its weights."""
  torch.manual_seed(0)
  model = torchvision.models.detection.maskrcnn_resnet50_fpn(
    weights=None, weights_backbone=None
  ).eval()
  with torch.no_grad():
    model.roi_heads.box_predictor.cls_score.weight *= DISTINCT
  arrays = {name: x.numpy() for name, x in model.state_dict().items()}
  config = runpy.run_path(str(CONFIG))["get_config"](
    "recipe=torchvision,schedule=26ep,outputs=90"
  )
  config.backbone.norm_epsilon = 1e-5  # 0 is of the published file alone
  shapes = variable_shapes(build_method(config).network, image_size=(64, 64))
  variables = convert(arrays, TORCHVISION_MASK_RCNN, shapes)
  return model, config, build_predictor(config, variables, batch_size=1)


def make_pooling(config, rng):
  """Returns both RoIAligns of NUM_BOXES boxes on P2 to P5."""
  maps = [
    rng.normal(size=(1, 256, *(side // stride for side in NETWORK_SIZE)))
    for stride in STRIDES[:4]
  ]
  maps = [np.float32(x) for x in maps]
  corners = rng.uniform(0, 1, (NUM_BOXES, 2)) * (1000, 500)
  sides = np.exp(rng.uniform(np.log(16), np.log(300), (NUM_BOXES, 2)))
  boxes = np.float32(np.concatenate([corners, corners + sides], axis=1))
  align = torchvision.ops.MultiScaleRoIAlign(list("0123"), 7, 2)
  features = {str(i): torch.from_numpy(x) for i, x in enumerate(maps)}
  pooling = build_method(config).network.pooling
  pyramid = [jnp.asarray(x.transpose(0, 2, 3, 1)) for x in maps]
  valid = jnp.ones((1, NUM_BOXES), bool)
  run = jax.jit(
    lambda maps, boxes: pool_boxes(maps, boxes, valid, size=7, pooling=pooling)
  )

  def pool_torch():
    with torch.no_grad():
      return align(features, [torch.from_numpy(boxes)], [NETWORK_SIZE]).numpy()

  def pool_jax():
    return np.asarray(run(pyramid, jnp.asarray(boxes)[None]))[0]

  difference = np.abs(pool_jax().transpose(0, 3, 1, 2) - pool_torch()).max()
  print(f"largest difference of RoIAlign: {difference:.1e}")
  return pool_jax, pool_torch


def main(argv: list[str]) -> None:
  """Prints the times."""
  del argv
  torch.set_num_threads(1)
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (15, 25, 3), np.uint8)
  image = image.repeat(40, axis=0).repeat(40, axis=1)
  assert image.shape[:2] == IMAGE_SIZE
  model, config, predictor = make_networks()
  tensor = torch.from_numpy(image.transpose(2, 0, 1).copy()) / 255

  def detect_torch():
    with torch.no_grad():
      found = model([tensor])[0]
    return {name: x.numpy() for name, x in found.items()}

  theirs, ours = detect_torch(), predictor(image)
  print(
    f"detections: {len(ours)} here, {len(theirs['scores'])} in torchvision; "
    f"scores differ by {np.abs(ours.scores - theirs['scores']).max():.1e}"
    if len(ours) == len(theirs["scores"])
    else f"detections: {len(ours)} here, {len(theirs['scores'])} there"
  )
  pool_jax, pool_torch = make_pooling(config, rng)
  works = {
    "whole": (lambda: predictor(image), detect_torch),
    "RoIAlign": (pool_jax, pool_torch),
  }
  for name, (mine, other) in works.items():
    times = time_in_turns({"here": mine, "torchvision": other}, _REPEATS.value)
    line = ", ".join(
      f"{who} {cpu:,.0f} CPU-ms ({wall:,.0f} ms)"
      for who, (cpu, wall) in times.items()
    )
    ratio = times["here"][0] / times["torchvision"][0]
    print(f"{name}: {line}; ratio {ratio:.2f}")


if __name__ == "__main__":
  app.run(main)
