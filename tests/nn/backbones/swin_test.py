"""Tests of solo_jax/nn/backbones/swin.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.conversion import swin as names
from solo_jax.conversion.mapping import convert
from solo_jax.nn.backbones.swin import (
  SIZES,
  Swin,
  drop_path_rates,
  gather_neighbours,
)
from tests.random_variables import random_variables

TINY = dict(
  embed_dim=8, depths=(1, 2, 1, 1), num_heads=(1, 2, 2, 4), window_size=3
)


def assert_close(actual, expected, tolerance):
  atol = tolerance * np.abs(expected).max()
  np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def make_network(config):
  return Swin(
    embed_dim=config["embed_dim"],
    depths=tuple(config["depths"]),
    num_heads=tuple(config["num_heads"]),
    window_size=config["window_size"],
    drop_path_rate=config.get("drop_path_rate", 0.3),
  )


@pytest.mark.golden("m2f_swin*.npz")
def test_fixture_features(golden):
  network = make_network(golden.config)
  apply = jax.jit(functools.partial(network.apply, train=False))
  for n in range(len(golden.config["inputs_hw"])):
    x = golden.channels_last(f"input_{n}")
    target = jax.eval_shape(
      functools.partial(network.init, train=False), jax.random.key(0), x
    )
    arrays = names.split_projections(golden.state_dict())
    variables = convert(
      arrays, names.backbone_rules(names.TRANSFORMERS), target
    )
    for stage, actual in enumerate(apply(variables, x), start=1):
      assert_close(actual, golden.channels_last(f"stage{stage}_{n}"), 2e-5)


@pytest.mark.golden("m2f_swin*.npz")
def test_fixture_merged_pixels_and_rates(golden):
  height, width = golden["merge_probe_hw"]
  probe = jnp.arange(
    height * width * golden.config["embed_dim"], dtype=jnp.float32
  ).reshape(1, height, width, -1)
  merged = gather_neighbours(probe)
  np.testing.assert_array_equal(
    merged.reshape(golden["merge_probe_cat"].shape), golden["merge_probe_cat"]
  )
  config = golden.config
  np.testing.assert_allclose(
    drop_path_rates(config["depths"], config["drop_path_rate"]),
    golden["drop_path_rates"],
    rtol=1e-6,
  )


@pytest.fixture(scope="module")
def tiny():
  """A network without skipping, its variables and two images."""
  network = Swin(**TINY, drop_path_rate=0.0)
  x = np.random.default_rng(1).normal(size=(2, 20, 28, 3)).astype(np.float32)
  # Of zeros, as they begin, biases could be anywhere.
  init = functools.partial(network.init, train=False)
  return random_variables(init, x), x


@functools.partial(jax.jit, static_argnums=0)
def train(network, variables, x, row, key):
  return network.apply(variables, x, train=True, row=row, rngs={"draws": key})


def test_skipped_branches_belong_to_the_row_of_the_global_batch(tiny):
  variables, x = tiny
  network = Swin(**TINY, drop_path_rate=0.6)
  key = jax.random.key(3)
  together = train(network, variables, x, jnp.arange(5, 7), key)
  # Each in a batch of its own, after another row: one shape, one program.
  batches = [
    train(network, variables, x[np.array([i, i])], jnp.array([9, 5 + i]), key)
    for i in range(2)
  ]
  alone = jax.tree.map(lambda *x: np.stack([y[1] for y in x]), *batches)
  for actual, expected in zip(together, alone, strict=True):
    assert_close(actual, expected, 1e-6)
  other_step = train(network, variables, x, jnp.arange(5, 7), jax.random.key(4))
  assert not np.allclose(together[-1], other_step[-1], atol=1e-3)


def test_skipping_keeps_the_mean_of_a_branch(tiny):
  # The branches of the first block are never skipped; those of the last one
  # are, in 60 % of the images, and worth 1 / 0.4 elsewhere.
  variables, x = tiny
  network = Swin(**TINY, drop_path_rate=0.6)
  draw = jax.vmap(
    lambda key: network.apply(
      {}, jnp.arange(50), rngs={"draws": key}, method=network._factors
    )
  )
  factors = jax.jit(draw)(jax.random.split(jax.random.key(0), 20))
  factors = np.asarray(factors)
  np.testing.assert_array_equal(factors[:, :, 0], 1)
  last = factors[:, :, -1].reshape(-1)
  np.testing.assert_allclose(np.unique(last), [0, 2.5], rtol=1e-6)
  np.testing.assert_allclose(last.mean(), 1, atol=0.1)


def test_training_that_draws_needs_rows(tiny):
  variables, x = tiny
  with pytest.raises(ValueError, match="row"):
    Swin(**TINY).apply(
      variables, x, train=True, rngs={"draws": jax.random.key(0)}
    )


def test_remat_and_bfloat16_give_the_same_map(tiny):
  variables, x = tiny
  plain, remat, half = (
    jax.jit(functools.partial(network.apply, train=False))(variables, x)
    for network in (
      Swin(**TINY),
      Swin(**TINY, remat=(1, 2)),
      Swin(**TINY, dtype=jnp.bfloat16),
    )
  )
  for a, b, c in zip(plain, remat, half, strict=True):
    assert_close(b, a, 1e-6)
    assert c.dtype == jnp.bfloat16
    assert_close(c.astype(jnp.float32), a, 0.05)


@pytest.mark.parametrize(
  ("size", "millions"), [("t", 27.5), ("s", 48.8), ("b", 86.9), ("l", 195.2)]
)
def test_published_sizes(size, millions):
  # Numbers of parameters without the classifier and with the norms of the
  # four maps, in millions: https://github.com/microsoft/Swin-Transformer has
  # 28.3, 49.6, 87.8 and 196.5 with the classifier of 1000 classes and windows
  # of 7; those of 12 add 0.1 to B and 0.2 to L.
  count = count_parameters(**SIZES[size])
  np.testing.assert_allclose(count / 1e6, millions, atol=0.1)
  if size == "t":  # the others are traced where their weights are converted
    shapes = jax.eval_shape(
      functools.partial(Swin(**SIZES[size]).init, train=False),
      jax.random.key(0),
      jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32),
    )
    assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == count


def count_parameters(embed_dim, depths, num_heads, window_size=7):
  """By hand, layer by layer."""
  count = 4 * 4 * 3 * embed_dim + 3 * embed_dim  # patches and their norm
  for stage, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
    width = embed_dim * 2**stage
    # Attention and MLP: 4 w^2 and 8 w^2 weights, 9 w biases, two norms.
    block = 12 * width**2 + 13 * width + (2 * window_size - 1) ** 2 * heads
    count += depth * block + 2 * width  # the norm of the map
    if stage < 3:  # four pixels into one of twice the width, after a norm
      count += 8 * width**2 + 8 * width
  return count
