r"""CPU time of Mask2Former and its parts, compared with transformers (PyTorch).

The same weights and inputs run in both, alternately in one process, on one core
and one thread so that CPU times are comparable. Needs torch and transformers:

XLA_FLAGS=--xla_cpu_multi_thread_eigen=false OMP_NUM_THREADS=1 \
    JAX_PLATFORMS=cpu taskset -c 1 python benchmarks/mask2former.py
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import rich.table
import torch
import transformers
from absl import app, flags
from solov2 import describe_run, run_in_turns
from transformers.models.mask2former import modeling_mask2former as peer

from solo_jax import types
from solo_jax.conversion import mask2former as names
from solo_jax.conversion.mapping import convert
from solo_jax.methods.mask2former.loss import (
  LossSettings,
  draw_points,
  outputs_loss,
  pair_costs,
)
from solo_jax.methods.mask2former.network import Mask2Former, Outputs
from solo_jax.methods.mask2former.targets import Targets
from solo_jax.methods.queries.matching import match
from solo_jax.nn.backbones.swin import SIZES, Swin
from solo_jax.nn.deformable_attention import (
  deformable_attention,
  reference_points,
)

_SIDE = flags.DEFINE_integer("side", 512, "Height and width of the input.")
_PASSES = flags.DEFINE_integer("passes", 3, "Runs; the fastest counts.")
_PARTS = flags.DEFINE_list(
  "parts", ["attention", "loss", "network"], "What to measure."
)

OURS, PEERS = "solo_jax", "PyTorch"


def run(function, *args):
  return jax.block_until_ready(function(*args))


def make_attention() -> dict:
  """One layer's deformable attention: 8 heads of 32, offsets of 3 pixels."""
  sizes = tuple((_SIDE.value // s,) * 2 for s in (32, 16, 8))
  rng = np.random.default_rng(0)
  reference = reference_points(sizes)
  shape = (1, len(reference), 8, len(sizes), 4)
  offsets = 3 * rng.standard_normal((*shape, 2))
  offsets /= np.asarray(sizes)[:, None, ::-1]
  locations = (reference[:, None, None, None] + offsets).astype("f")
  weights = rng.random(shape).astype("f") / 12
  values = rng.standard_normal((1, len(reference), 8, 32)).astype("f")
  ours = [jnp.asarray(x) for x in (values, locations, weights)]
  theirs = [
    torch.tensor(x, requires_grad=True) for x in (values, locations, weights)
  ]
  forward = jax.jit(lambda *x: deformable_attention(*x, sizes))
  both = jax.jit(
    jax.value_and_grad(
      lambda *x: jnp.sum(deformable_attention(*x, sizes)), argnums=(0, 1, 2)
    )
  )

  def peer_forward():
    values, *others = theirs
    return peer.multi_scale_deformable_attention(values, sizes, *others)

  return {
    ("deformable attention", "forward", OURS): lambda: run(forward, *ours),
    ("deformable attention", "forward", PEERS): torch.no_grad()(peer_forward),
    ("deformable attention", "both", OURS): lambda: run(both, *ours),
    ("deformable attention", "both", PEERS): lambda: (
      peer_forward().sum().backward()
    ),
  }


def make_loss() -> dict:
  """Matching for one output and the loss of ten; 2 images with 20 objects.

  Both sample 12544 points per mask; solo_jax has room for 40 objects per image.
  """
  rng = np.random.default_rng(0)
  images, queries, classes, objects, room, outputs = 2, 100, 80, 20, 40, 10
  side = _SIDE.value // 4
  masks = np.zeros((images, room, _SIDE.value, _SIDE.value), np.float32)
  for mask in masks[:, :objects].reshape(-1, *masks.shape[2:]):
    y, x = rng.integers(0, _SIDE.value // 2, 2)
    mask[y : y + _SIDE.value // 4, x : x + _SIDE.value // 3] = 1
  labels = rng.integers(0, classes, (images, room))
  class_logits, mask_logits = (
    rng.standard_normal((outputs, images, queries, *shape)).astype("f")
    for shape in ((classes + 1,), (side, side))
  )
  targets = Targets(
    masks=types.PackedMasks(
      data=jnp.asarray(np.packbits(masks > 0, axis=-1)),
      encoding="bits",
      stride=1,
    ),
    labels=jnp.asarray(labels),
    valid=jnp.broadcast_to(jnp.arange(room) < objects, (images, room)),
    num_dropped=jnp.zeros(images, jnp.int32),
  )
  settings = LossSettings(
    category_weight=2.0,
    category_cost=2.0,
    mask_weight=5.0,
    dice_weight=5.0,
    no_object_weight=0.1,
    num_points=12544,
    oversample_ratio=3.0,
    importance_sample_ratio=0.75,
  )
  keys = jax.random.split(jax.random.key(0), images)
  draw = functools.partial(
    draw_points,
    num_points=12544,
    oversample_ratio=3.0,
    importance_sample_ratio=0.75,
  )

  @jax.jit
  def match_output(keys, targets, class_logits, mask_logits):
    points = draw(keys, 0).match
    costs = pair_costs(class_logits, mask_logits, targets, points, settings)
    return match(costs, targets.valid)

  @jax.jit
  def both(keys, targets, outputs):
    return jax.value_and_grad(
      lambda outputs: outputs_loss(
        outputs,
        targets,
        jnp.ones(images, bool),
        functools.partial(draw, keys),
        settings,
        None,
      )[0]
    )(outputs)

  ours = Outputs(*(tuple(jnp.asarray(x)) for x in (class_logits, mask_logits)))
  config = transformers.Mask2FormerConfig(
    id2label={i: str(i) for i in range(classes)}
  )
  names = ("loss_cross_entropy", "loss_mask", "loss_dice")
  criterion = peer.Mask2FormerLoss(
    config, dict(zip(names, (2.0, 5.0, 5.0), strict=True))
  )
  theirs = [
    [torch.tensor(x, requires_grad=True) for x in logits]
    for logits in (class_logits, mask_logits)
  ]
  true_masks = [torch.tensor(m[:objects]) for m in masks]
  true_labels = [torch.tensor(x[:objects]) for x in labels]

  def peer_match():
    return criterion.matcher(
      theirs[1][0], theirs[0][0], true_masks, true_labels
    )

  def peer_both():
    auxiliary = [
      dict(class_queries_logits=k, masks_queries_logits=m)
      for k, m in zip(theirs[0][:-1], theirs[1][:-1], strict=True)
    ]
    losses = criterion(
      theirs[1][-1], theirs[0][-1], true_masks, true_labels, auxiliary
    )
    sum(losses.values()).backward()

  first = ours.class_logits[0], ours.mask_logits[0]
  return {
    ("matching", "forward", OURS): lambda: run(
      match_output, keys, targets, *first
    ),
    ("matching", "forward", PEERS): torch.no_grad()(peer_match),
    ("loss of 10 outputs", "both", OURS): lambda: run(
      both, keys, targets, ours
    ),
    ("loss of 10 outputs", "both", PEERS): peer_both,
  }


def make_network() -> dict:
  """The whole network, Swin-T, COCO instances."""
  size = SIZES["t"]
  config = transformers.Mask2FormerConfig(
    backbone_config=transformers.SwinConfig(
      embed_dim=size["embed_dim"],
      depths=list(size["depths"]),
      num_heads=list(size["num_heads"]),
      window_size=7,
      drop_path_rate=0.0,
      out_features=["stage1", "stage2", "stage3", "stage4"],
    ),
    id2label={i: str(i) for i in range(80)},
  )
  torch.manual_seed(0)
  theirs = transformers.Mask2FormerForUniversalSegmentation(config).eval()
  network = Mask2Former(
    backbone=Swin(**size, drop_path_rate=0.0),
    num_classes=80,
    num_queries=100,
    channels=256,
    mask_channels=256,
    num_heads=8,
    num_encoder_layers=6,
    encoder_hidden=1024,
    num_decoder_layers=9,
    decoder_hidden=2048,
    remat_encoder=False,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    channel_order="rgb",
    dtype=jnp.float32,
  )
  image = np.random.default_rng(0).integers(0, 3, (1, *(_SIDE.value,) * 2, 3))
  image = image.astype(np.uint8)
  image_size = jnp.full((1, 2), _SIDE.value)
  target = jax.eval_shape(
    functools.partial(network.init, train=False),
    jax.random.key(0),
    image,
    image_size,
  )
  arrays = {k: v.numpy() for k, v in theirs.state_dict().items()}
  variables = jax.device_put(
    convert(names.prepare(arrays), names.TRANSFORMERS, target)
  )
  pixels = torch.tensor(image.transpose(0, 3, 1, 2).astype("f"))
  apply = functools.partial(network.apply, train=False)
  forward = jax.jit(lambda *x: apply(*x).mask_logits[-1])
  both = jax.jit(
    jax.grad(
      lambda *x: sum(
        jnp.mean(jnp.square(leaf)) for leaf in jax.tree.leaves(apply(*x))
      )
    )
  )

  def peer_forward():
    return theirs(pixels).masks_queries_logits

  def peer_both():
    theirs.zero_grad()
    found = theirs(pixels, output_auxiliary_logits=True)
    outputs = [x for part in found.auxiliary_logits for x in part.values()]
    outputs += [found.masks_queries_logits, found.class_queries_logits]
    sum(x.square().mean() for x in outputs).backward()

  inputs = variables, image, image_size
  with torch.no_grad():
    expected = peer_forward().numpy()
  actual = np.asarray(forward(*inputs))
  print("largest difference", np.abs(actual - expected).max(), "of",
        np.abs(expected).max())  # fmt: skip
  return {
    ("Swin-T, whole", "forward", OURS): lambda: run(forward, *inputs),
    ("Swin-T, whole", "forward", PEERS): torch.no_grad()(peer_forward),
    ("Swin-T, whole", "both", OURS): lambda: run(both, *inputs),
    ("Swin-T, whole", "both", PEERS): peer_both,
  }


def main(_) -> None:
  torch.set_num_threads(1)
  parts = dict(attention=make_attention, loss=make_loss, network=make_network)
  table = rich.table.Table(
    "part",
    "pass",
    "CPU-ms",
    "PyTorch",
    "ratio",
    title=f"{_SIDE.value} x {_SIDE.value}, float32",
  )
  results = []
  for name in _PARTS.value:
    times, _ = run_in_turns(parts[name](), _PASSES.value)
    for part, direction, whose in times:
      if whose != OURS:
        continue
      ours, theirs = (
        times[part, direction, who]["cpu_ms"] for who in (OURS, PEERS)
      )
      results.append(
        dict(part=part, direction=direction, cpu_ms=ours, torch_cpu_ms=theirs)
      )
      numbers = (f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.2f}")
      table.add_row(part, direction, *numbers)
  rich.console.Console().print(table)
  print(json.dumps(describe_run() | {"times": results}))


if __name__ == "__main__":
  app.run(main)
