"""Tests of solo_jax/nn/backbones/darknet.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.nn.backbones.darknet import DarkNet, is_frozen
from tests.random_variables import random_variables


def norm(x, parameters, statistics):
  x = (x - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-5)
  x = x * parameters["scale"] + parameters["bias"]
  return np.where(x > 0, x, 0.1 * x)


def convolve(x, kernel, stride):
  """A loop over the taps of a padded map [H, W, C]."""
  side = kernel.shape[0]
  padded = np.pad(x, [(side // 2,) * 2] * 2 + [(0, 0)])
  height, width = (-(-n // stride) for n in x.shape[:2])
  return sum(
    padded[i : i + stride * height : stride, j : j + stride * width : stride][
      :height, :width
    ]
    @ kernel[i, j]
    for i in range(side)
    for j in range(side)
  )


def test_equals_loops_over_taps():
  """Odd sizes, statistics that are not neutral."""
  network = DarkNet(stage_sizes=(1, 1, 0, 0, 0), width=2, norm="batch")
  x = np.random.default_rng(0).standard_normal((1, 21, 13, 3), np.float32)
  init = functools.partial(network.init, train=False)
  variables = jax.eval_shape(init, jax.random.key(0), x)
  leaves, tree = jax.tree.flatten(variables)
  rng = np.random.default_rng(1)
  leaves = [np.float32(rng.uniform(0.2, 1, leaf.shape)) for leaf in leaves]
  variables = jax.tree.unflatten(tree, leaves)
  run = jax.jit(functools.partial(network.apply, train=False))
  c2, c3, c4, c5 = run(variables, x)
  params, statistics = variables["params"], variables["batch_stats"]

  def layer(y, stride, *path):
    p, s = params, statistics
    for name in path:
      p, s = p[name], s[name]
    return norm(convolve(y, p["conv"]["kernel"], stride), p["bn"], s["bn"])

  y = layer(x[0], 1, "stem")
  for stage in (1, 2):
    y = layer(y, 2, f"stage{stage}_0")
    z = layer(y, 1, f"stage{stage}_1", "conv1")
    y = y + layer(z, 1, f"stage{stage}_1", "conv2")
  np.testing.assert_allclose(c2[0], y, rtol=2e-4)
  assert [m.shape for m in (c2, c3, c4, c5)] == [
    (1, 6, 4, 8),
    (1, 3, 2, 16),
    (1, 2, 1, 32),
    (1, 1, 1, 64),
  ]


def test_frozen_stages_get_no_gradient():
  network = DarkNet(
    stage_sizes=(0,) * 5, width=2, norm="batch", frozen_stages=2
  )
  x = jnp.ones((1, 8, 8, 3))
  variables = random_variables(functools.partial(network.init, train=False), x)

  def total(params):
    maps, _ = network.apply(
      {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
    )
    return sum(jnp.sum(jnp.abs(y)) for y in maps)

  gradient = jax.jit(jax.grad(total))(variables["params"])
  for name, tree in gradient.items():
    moves = any(np.any(leaf != 0) for leaf in jax.tree.leaves(tree))
    assert moves or is_frozen(name, 2)
    assert not (moves and is_frozen(name, 2))
  assert [is_frozen(x, 0) for x in ("stem", "stage1_0")] == [False, False]
