r"""CPU time of the kernel gradient of a convolution, compared with XLA's own.

One core and one thread, so that CPU times are comparable; the two run
alternately on the same input:

XLA_FLAGS=--xla_cpu_multi_thread_eigen=false OMP_NUM_THREADS=1 \
    JAX_PLATFORMS=cpu taskset -c 1 python benchmarks/conv_gradient.py
"""

import functools
import json

import jax
import rich.console
import rich.table
from absl import app, flags
from solov2 import describe_run, run_in_turns

from solo_jax.nn.conv import kernel_gradient, same_conv2d

# Layers of the nuclei configs at batch 8, then of ResNet-50 and a SOLOv2 head.
_SHAPES = flags.DEFINE_list(
  "shapes",
  "8x64x64x48x3,8x64x64x48x1,8x32x32x64x3,8x16x16x96x3,"
  "1x128x128x64x3,1x128x128x256x1,1x64x64x256x3,1x40x40x512x3",
  "BATCHxHEIGHTxWIDTHxCHANNELSxKERNEL; with equal input and output channels.",
)
_PASSES = flags.DEFINE_integer("passes", 5, "Runs; the fastest counts.")


def measure(shape: tuple[int, ...]) -> dict[str, float]:
  """Returns CPU-ms of the forward pass and of both kernel gradients."""
  *shape, size = shape
  channels = shape[-1]
  keys = jax.random.split(jax.random.key(0), 3)
  x = jax.random.normal(keys[0], shape)
  gradient = jax.random.normal(keys[1], shape)
  kernel = jax.random.normal(keys[2], (size, size, channels, channels))

  @jax.jit
  def of_xla(x, gradient):
    padding = size // 2

    def conv(kernel):
      return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
      )

    return jax.linear_transpose(conv, kernel)(gradient)[0]

  ours = jax.jit(functools.partial(kernel_gradient, size=size))

  def run(function, *args):
    return lambda: jax.block_until_ready(function(*args))

  works = dict(
    forward=run(jax.jit(same_conv2d), x, kernel),
    xla=run(of_xla, x, gradient),
    ours=run(ours, x, gradient),
  )
  times, _ = run_in_turns(works, _PASSES.value)
  return {name: row["cpu_ms"] for name, row in times.items()}


def main(_) -> None:
  table = rich.table.Table(
    "input, kernel",
    "forward, CPU-ms",
    "kernel gradient of XLA",
    "ours",
    "XLA / ours",
    title="kernel gradients, float32",
  )
  results = {}
  for text in _SHAPES.value:
    row = measure(tuple(int(n) for n in text.split("x")))
    results[text] = row
    table.add_row(
      text,
      *(f"{row[name]:.1f}" for name in ("forward", "xla", "ours")),
      f"{row['xla'] / row['ours']:.2f}",
    )
  rich.console.Console().print(table)
  report = {"benchmark": "conv_gradient"} | describe_run()
  print(json.dumps(report | {"shapes": results}))


if __name__ == "__main__":
  app.run(main)
