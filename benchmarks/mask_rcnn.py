r"""CPU time of Mask R-CNN R50-FPN, pixels to masks, compared with torchvision.

Both have the same weights (torchvision's random ones, with classes made
distinct so that there are detections) and the same image, and run alternately
on one core and one thread:

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
DISTINCT = 4  # factor of the class head's weights


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
  """Returns both RoIAligns of NUM_BOXES boxes on P2 to P5, and gradients."""
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

  @jax.jit
  def pool(maps, boxes):
    return pool_boxes(maps, boxes, valid, size=7, pooling=pooling)

  @jax.jit
  def spread(maps, boxes, by_bins):
    pooled, backward = jax.vjp(lambda maps: pool(maps, boxes), maps)
    return pooled, backward(by_bins)[0]

  boxes_torch, boxes_jax = torch.from_numpy(boxes), jnp.asarray(boxes)[None]
  by_bins = np.float32(rng.normal(size=(NUM_BOXES, 256, 7, 7)))
  by_bins_jax = jnp.asarray(by_bins.transpose(0, 2, 3, 1))[None]

  def pool_torch():
    with torch.no_grad():
      return align(features, [boxes_torch], [NETWORK_SIZE]).numpy()

  def pool_jax():
    return np.asarray(pool(pyramid, boxes_jax))[0].transpose(0, 3, 1, 2)

  def spread_torch():
    maps = {k: x.clone().requires_grad_() for k, x in features.items()}
    align(maps, [boxes_torch], [NETWORK_SIZE]).backward(
      torch.from_numpy(by_bins)
    )
    return maps["0"].grad.numpy()

  def spread_jax():
    _, by_maps = jax.block_until_ready(spread(pyramid, boxes_jax, by_bins_jax))
    return np.asarray(by_maps[0]).transpose(0, 3, 1, 2)

  for mine, other in ((pool_jax, pool_torch), (spread_jax, spread_torch)):
    found, wanted = mine(), other()
    print(
      f"RoIAlign: largest value {np.abs(wanted).max():.2f}, largest "
      f"difference {np.abs(found - wanted).max():.1e}"
    )
  return {
    "RoIAlign": (pool_jax, pool_torch),
    "RoIAlign with gradient": (spread_jax, spread_torch),
  }


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
    f"{len(ours)} detections here, {len(theirs['scores'])} there; scores from "
    f"{ours.scores.min():.3f} to {ours.scores.max():.3f}; sum of all mask "
    f"pixels {ours.masks.sum()} here, {(theirs['masks'] > 0.5).sum()} there"
  )
  works = {"whole": (lambda: predictor(image), detect_torch)}
  works |= make_pooling(config, rng)
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
