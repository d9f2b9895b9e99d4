r"""CPU time of deformable and grouped convolutions compared with a plain 3x3.

One core and one thread, so that CPU times are comparable; all layers run
alternately on the same input, with equal input and output channels:

XLA_FLAGS=--xla_cpu_multi_thread_eigen=false OMP_NUM_THREADS=1 \
    JAX_PLATFORMS=cpu taskset -c 1 python benchmarks/deform_conv.py
"""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import rich.console
import rich.table
from absl import app, flags
from solov2 import describe_run, run_in_turns

from solo_jax.nn.deform_conv import DeformConv
from solo_jax.nn.grouped_conv import GroupedConv

# C3 to C5 of an 800 x 1344 image at half and at full size; a head tower's P3.
_SHAPES = flags.DEFINE_list(
  "shapes",
  "50x84x256,25x42x512,100x168x128,100x168x256",
  "Inputs, HEIGHTxWIDTHxCHANNELS.",
)
_PASSES = flags.DEFINE_integer("passes", 5, "Runs; the fastest counts.")
_BATCH = flags.DEFINE_integer("batch", 1, "Batch size.")

PLAIN, SPREAD = "plain 3x3", 2.0  # standard deviation of the offsets, pixels
GROUPS = 64  # ResNeXt-101 64x4d


def make_layers(channels: int) -> dict[str, nn.Module]:
  """Makes the layers to compare, all without bias."""
  init = nn.initializers.lecun_normal()
  layers = {
    PLAIN: nn.Conv(channels, (3, 3), padding=1, use_bias=False),
    "deformable v1": DeformConv(channels, modulated=False),
    "deformable v2": DeformConv(channels, modulated=True),
  }
  if channels >= 4 * GROUPS:
    layers |= {
      f"{GROUPS} groups": GroupedConv(channels, 3, 1, GROUPS, init),
      f"{GROUPS} groups, deformable v2": DeformConv(channels, groups=GROUPS),
    }
  return layers


def make_works(layer: nn.Module, x: jax.Array, y_gradient: jax.Array):
  """Compiles a layer: (forward, forward and backward), without arguments."""
  variables = layer.init(jax.random.key(0), x)
  if "offset" in variables["params"]:
    # Random offsets: at zero, as initialised, neighbours read the same pixels.
    offset = variables["params"]["offset"]
    offset["kernel"] = SPREAD * nn.initializers.lecun_normal()(
      jax.random.key(1), offset["kernel"].shape
    )

  @jax.jit
  def forward(variables, x):
    return layer.apply(variables, x)

  @jax.jit
  def backward(variables, x, y_gradient):
    y, vjp = jax.vjp(layer.apply, variables, x)
    return y, vjp(y_gradient)

  def run(function, *args):
    return jax.block_until_ready(function(*args))

  return (
    functools.partial(run, forward, variables, x),
    functools.partial(run, backward, variables, x, y_gradient),
  )


def measure(shape: tuple[int, int, int]) -> dict[str, dict[str, float]]:
  """Times all layers on one input; CPU ms and ratios to the plain layer."""
  rng = np.random.default_rng(0)
  x, y_gradient = (
    jnp.asarray(rng.standard_normal((_BATCH.value, *shape), np.float32))
    for _ in range(2)
  )
  works = {}
  for name, layer in make_layers(shape[-1]).items():
    forward, backward = make_works(layer, x, y_gradient)
    works |= {(name, "forward"): forward, (name, "both"): backward}
  times, _ = run_in_turns(works, _PASSES.value)
  rows = {}
  for name, direction in works:
    cpu = times[name, direction]["cpu_ms"]
    ratio = cpu / times[PLAIN, direction]["cpu_ms"]
    rows.setdefault(name, {}).update(
      {f"{direction}_cpu_ms": cpu, f"{direction}_ratio": ratio}
    )
  return rows


def main(_) -> None:
  table = rich.table.Table(
    "input",
    "layer",
    "forward, CPU-ms",
    "/ plain",
    "forward + backward",
    "/ plain",
    title=f"3x3 convolutions, {_BATCH.value} image(s), float32",
  )
  results = {}
  for text in _SHAPES.value:
    results[text] = measure(tuple(int(n) for n in text.split("x")))
    for name, row in results[text].items():
      table.add_row(
        text,
        name,
        f"{row['forward_cpu_ms']:.1f}",
        f"{row['forward_ratio']:.2f}",
        f"{row['both_cpu_ms']:.1f}",
        f"{row['both_ratio']:.2f}",
      )
    table.add_section()
  rich.console.Console().print(table)
  report = {"benchmark": "deform_conv", "batch": _BATCH.value}
  print(json.dumps(report | describe_run() | {"shapes": results}))


if __name__ == "__main__":
  app.run(main)
