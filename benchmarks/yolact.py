r"""CPU time of YOLACT at 550 x 550, compared with PyTorch.

ResNet-50, COCO's 80 classes, one image, from the pixels to masks at the
original size. The same weights run in both, alternately in one process, on one
core and one thread so that CPU times are comparable. Weights are random, with a
background bias that lets some hundred priors exceed the threshold, as in a
photo. Results are compared first. Needs torch:

XLA_FLAGS=--xla_cpu_multi_thread_eigen=false OMP_NUM_THREADS=1 \
    JAX_PLATFORMS=cpu taskset -c 1 python benchmarks/yolact.py
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch_yolact
from absl import app, flags
from solov2 import describe_run, run_in_turns

from solo_jax.conversion import yolact as names
from solo_jax.conversion.mapping import convert
from solo_jax.inference.instances import to_instances
from solo_jax.methods.yolact.decode import decode
from solo_jax.methods.yolact.detections import DetectionSettings
from solo_jax.methods.yolact.network import YOLACT
from solo_jax.methods.yolact.priors import Priors
from solo_jax.nn.backbones.resnet import DEPTHS, ResNet

_PASSES = flags.DEFINE_integer("passes", 5, "Runs; the fastest counts.")
_PRIORS = flags.DEFINE_integer("priors", 500, "Priors above the threshold.")

SIDE, ORIGINAL = torch_yolact.SIDE, (480, 640)
SIZE = (SIDE, SIDE)
MEAN, STD = (123.68, 116.78, 103.94), (58.40, 57.12, 57.38)


def make_network() -> YOLACT:
  """Returns the network of configs/yolact_coco.py:backbone=r50."""
  return YOLACT(
    backbone=ResNet(**DEPTHS[50], norm="batch"),
    num_classes=torch_yolact.NUM_CLASSES,
    fpn_channels=torch_yolact.CHANNELS,
    is_rectified=True,
    p6_source="p5",
    num_protos=torch_yolact.PROTOS,
    priors=Priors(
      sizes=tuple((float(s),) for s in torch_yolact.SCALES),
      ratios=(1.0, 2.0, 0.5),
      is_square=True,
    ),
    mask_score_channels=(),
    detection=DetectionSettings(
      min_score=torch_yolact.MIN_SCORE,
      scored="prior",
      candidates_per_level=None,
      clip_boxes=False,
      top_k=torch_yolact.TOP_K,
      nms_threshold=torch_yolact.OVERLAP,
      across_classes=False,
      max_detections=torch_yolact.MAX_DETECTIONS,
    ),
    mean=MEAN,
    std=STD,
    channel_order="rgb",
    dtype=jnp.float32,
  )


def make_peer(pixels: torch.Tensor) -> torch_yolact.Yolact:
  """Returns the PyTorch network with the wanted number of candidates."""
  torch.manual_seed(0)
  network = torch_yolact.Yolact()
  head = network.prediction_layers[0]
  for layer in network.modules():
    if isinstance(layer, torch.nn.BatchNorm2d):
      layer.momentum = 1.0  # the statistics of this image
    elif isinstance(layer, torch.nn.Conv2d) and layer.bias is not None:
      torch.nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
      torch.nn.init.zeros_(layer.bias)
  with torch.no_grad():
    network.train()(pixels)
    network.eval()
    layers = (head.conf_layer, 2.0), (head.bbox_layer, 1.0)
    layers += (head.mask_layer, 1.0), (network.proto_net[-1], 1.0)
    for (layer, wanted), found in zip(layers, network(pixels), strict=True):
      layer.weight *= wanted / found.std()
    # The background logit with which the wanted number of priors takes part.
    low, high = -200.0, 200.0
    logits = network(pixels)[0][0]
    for _ in range(30):
      bias = (low + high) / 2
      shifted = logits + bias * (torch.arange(logits.shape[1]) == 0)
      best = shifted.softmax(-1)[:, 1:].max(1).values
      if (best > torch_yolact.MIN_SCORE).sum() > _PRIORS.value:
        low = bias
      else:
        high = bias
    step = torch_yolact.NUM_CLASSES + 1
    head.conf_layer.bias[::step] += bias
  return network


def main(_) -> None:
  torch.set_num_threads(1)
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (1, 9, 9, 3), np.uint8)
  image = image.repeat(62, 1).repeat(62, 2)[:, :SIDE, :SIDE]
  pixels = torch.tensor((image - np.float32(MEAN)) / np.float32(STD))
  pixels = pixels.permute(0, 3, 1, 2).contiguous()
  theirs, network = make_peer(pixels), make_network()
  image_size = jnp.full((1, 2), SIDE)
  target = jax.eval_shape(
    functools.partial(network.init, train=False),
    jax.random.key(0),
    image,
    image_size,
  )
  arrays = {k: v.numpy() for k, v in theirs.state_dict().items()}
  variables = jax.device_put(
    convert(names.prepare_original(arrays), names.ORIGINAL, target)
  )
  priors = torch_yolact.make_priors()

  @jax.jit
  def detect(variables, image, image_size):
    outputs = network.apply(variables, image, image_size, train=False)
    return decode(outputs, image_size)

  @jax.jit
  def forward(variables, image, image_size):
    found = network.apply(
      variables, image, image_size, train=False, method=network.predict
    )
    return found.class_logits, found.box_codes, found.prototypes

  def ours():
    found = jax.device_get(detect(variables, image, image_size))
    sizes = dict(padded_size=SIZE, image_size=SIZE, original_size=ORIGINAL)
    return to_instances(found, 0, **sizes, threshold=0.5)

  @torch.no_grad()
  def peer():
    *found, prototypes = theirs(pixels)
    found = (x[0] for x in (*found, prototypes))
    return torch_yolact.decode(*found, priors, ORIGINAL)

  works = {
    "whole": ours,
    "whole, PyTorch": peer,
    "network": lambda: jax.block_until_ready(
      forward(variables, image, image_size)
    ),
    "network, PyTorch": torch.no_grad()(lambda: theirs(pixels)),
  }
  times, results = run_in_turns(works, _PASSES.value)
  compare(results["whole"], results["whole, PyTorch"])
  for name in ("whole", "network"):
    a, b = (times[x]["cpu_ms"] for x in (name, f"{name}, PyTorch"))
    print(f"{name}: {a:.0f} CPU-ms, PyTorch {b:.0f}, ratio {a / b:.2f}")
  print(json.dumps(describe_run() | {"times": times}))


def compare(ours, theirs) -> None:
  """Prints how much the two results differ."""
  scores, labels, _, masks = (x.numpy() for x in theirs)
  same = np.mean(ours.labels == labels)
  pixels = np.mean(np.asarray(ours.masks) != masks)
  difference = np.abs(ours.scores - scores).max()
  print(
    f"{len(scores)} detections; scores differ by up to {difference:.1e}, "
    f"{same:.0%} of the labels agree, {pixels:.2%} of the mask pixels differ; "
    f"masks cover {masks.mean():.1%} of the image on average"
  )


if __name__ == "__main__":
  app.run(main)
