"""Tests of solo_jax/methods/grid/network.py."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.grid.network import GridNetwork, prior_bias


class Pyramid(nn.Module):
  """A backbone of average pools at strides 4, 8, 16, 32."""

  @nn.compact
  def __call__(self, x, *, train, row=None):
    del train
    return tuple(nn.avg_pool(x, (s, s), (s, s)) for s in (4, 8, 16, 32))


class Categories(GridNetwork):
  """The shared parts and nothing else."""

  def head(self, pyramid, padded_size):
    maps = tuple(self.level_maps(pyramid, padded_size))
    return maps, tuple(self.category_logits(x) for x in maps)


def make_network(**overrides):
  settings = dict(
    backbone=Pyramid(),
    num_classes=3,
    levels=(2, 4, 6),
    strides=(8, 16, 32),
    num_grids=(4, 4, 4),
    fpn_channels=8,
    head_channels=8,
    num_head_convs=2,
    num_groups=2,
    mean=(10.0, 0.0, 0.0),
    std=(2.0, 1.0, 1.0),
    channel_order="rgb",
    dtype=jnp.float32,
  )
  return Categories(**{**settings, **overrides})


IMAGE = jnp.zeros((1, 64, 128, 3), jnp.uint8)
SIZE = jnp.array([[64, 128]])


def test_levels_have_the_size_of_their_stride():
  network = make_network()
  (maps, logits), variables = jax.eval_shape(
    lambda: network.init_with_output(
      jax.random.key(0), IMAGE, SIZE, train=False
    )
  )
  assert [x.shape for x in maps] == [
    (1, 8, 16, 8),  # P2 halved
    (1, 4, 8, 8),
    (1, 2, 4, 8),  # P6 enlarged
  ]
  assert [x.shape for x in logits] == [
    (1, 8, 16, 3),
    (1, 4, 8, 3),
    (1, 2, 4, 3),
  ]
  assert set(variables["params"]) == {
    *("fpn", "category_convs_0", "category_convs_1", "category")
  }


def test_first_probabilities_are_the_prior():
  network = make_network()
  variables = jax.jit(
    lambda: network.init(jax.random.key(0), IMAGE, SIZE, train=False)
  )()
  np.testing.assert_allclose(
    jax.nn.sigmoid(variables["params"]["category"]["bias"]), 0.01, 1e-5
  )
  bias = prior_bias(0.25)(jax.random.key(0), (2,), jnp.float32)
  np.testing.assert_allclose(bias, -np.log(3), 1e-6)


def test_bfloat16_puts_out_float32_logits():
  network = make_network(dtype=jnp.bfloat16)
  _, logits = jax.eval_shape(
    lambda: network.init_with_output(
      jax.random.key(0), IMAGE, SIZE, train=False
    )[0]
  )
  assert all(x.dtype == jnp.float32 for x in logits)


@pytest.mark.parametrize(
  ("convs", "expected"), [("all", [0, 1]), ("last", [1])]
)
def test_deformable_convolutions_of_a_tower(convs, expected):
  network = make_network(deformable="v2", deformable_convs=convs)
  variables = jax.eval_shape(
    lambda: network.init(jax.random.key(0), IMAGE, SIZE, train=False)
  )
  offsets = [
    i
    for i in range(2)
    if "offset" in variables["params"][f"category_convs_{i}"]["conv"]
  ]
  assert offsets == expected
  offset = variables["params"]["category_convs_1"]["conv"]["offset"]
  assert offset["kernel"].shape == (3, 3, 8, 27)  # 18 offsets, 9 weights


def test_unknown_choice_of_deformable_convolutions():
  network = make_network(deformable="v1", deformable_convs="first")
  with pytest.raises(ValueError, match="'all' or 'last', got 'first'"):
    network.init(jax.random.key(0), IMAGE, SIZE, train=False)
