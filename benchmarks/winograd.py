r"""CPU time of Winograd's 3x3 convolution, compared with XLA's direct one.

F(2x2, 3x3) of https://arxiv.org/abs/1509.09308, written with XLA's operations,
needs 2.25 times fewer multiplications. Forward pass only, one thread:

XLA_FLAGS=--xla_cpu_multi_thread_eigen=false taskset -c 0 \
    python benchmarks/winograd.py
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from solov2 import run_in_turns

from solo_jax.nn.conv import plain_conv

_PASSES = flags.DEFINE_integer("passes", 5, "Runs; the fastest counts.")

# (side of the map, channels): towers, pyramid and backbone of SOLOv2-R50.
LAYERS = ((40, 512), (24, 512), (128, 128), (128, 256), (64, 256), (64, 64))
KERNEL = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]], np.float32) / 2


def winograd_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Returns a 3x3 convolution, [1, H, W, C] and [3, 3, C, O] float32.

  H and W must be even.
  """
  _, height, width, channels = x.shape
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  tiles = [
    [x[:, i : i + height - 1 : 2, j : j + width - 1 : 2] for j in range(4)]
    for i in range(4)
  ]
  tiles = [_mix(row) for row in zip(*map(_mix, tiles), strict=True)]  # [j][i]
  left = jnp.stack([x.reshape(-1, channels) for row in tiles for x in row])
  right = jnp.einsum("jb,ia,abco->jico", KERNEL, KERNEL, kernel)
  products = jnp.matmul(left, right.reshape(16, channels, -1))
  products = products.reshape(4, 4, *products.shape[1:])
  rows = _sum([_sum(row) for row in products.swapaxes(0, 1)])
  pixels = rows.reshape(2, 2, height // 2, width // 2, -1)  # [y, x, ...]
  return pixels.transpose(2, 0, 3, 1, 4).reshape(1, height, width, -1)


def _mix(x):
  return [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]]


def _sum(x):
  return jnp.stack([x[0] + x[1] + x[2], x[1] - x[2] - x[3]])


def run(conv, x, kernel) -> jax.Array:
  """Returns a result that is computed."""
  return jax.block_until_ready(conv(x, kernel))


def main(_) -> None:
  generator = np.random.default_rng(0)
  for side, channels in LAYERS:
    x = generator.normal(size=(1, side, side, channels)).astype(np.float32)
    kernel = generator.normal(size=(3, 3, channels, channels))
    kernel = (kernel / np.sqrt(9 * channels)).astype(np.float32)
    works = {
      name: functools.partial(run, jax.jit(function), x, kernel)
      for name, function in (
        ("direct", plain_conv),
        ("winograd", winograd_conv),
      )
    }
    times, results = run_in_turns(works, _PASSES.value)
    np.testing.assert_allclose(
      results["winograd"], results["direct"], atol=1e-4
    )
    direct, winograd = (times[name]["cpu_ms"] for name in works)
    print(
      f"{side} x {side} x {channels}: direct {direct:.1f} CPU-ms, Winograd "
      f"{winograd:.1f}, ratio {winograd / direct:.2f}"
    )


if __name__ == "__main__":
  app.run(main)
