"""Tests of solo_jax/methods/decoupled_solo/network.py."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.conversion import mmdet
from solo_jax.conversion.mapping import convert
from solo_jax.methods.decoupled_solo.network import DecoupledSOLO
from solo_jax.nn.resize import resize_bilinear


class NoBackbone(nn.Module):
  """Stands in where only the head runs."""


def assert_close(actual, expected):
  """Within 1e-4 of the largest value."""
  scale = np.abs(expected).max()
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * scale)


def make_network(config, shared_tower):
  return DecoupledSOLO(
    backbone=NoBackbone(),
    num_classes=config["num_classes"],
    levels=(2, 3, 4, 5, 6),
    strides=tuple(config["strides"]),
    num_grids=tuple(config["num_grids"]),
    fpn_channels=config["in_channels"],
    head_channels=config["feat_channels"],
    num_head_convs=config["stacked_convs"],
    num_groups=config["num_groups"],
    shared_tower=shared_tower,
    mean=(0, 0, 0),
    std=(1, 1, 1),
    channel_order="rgb",
    dtype=jnp.float32,
  )


@pytest.mark.golden("head_decoupled*.npz")
def test_head_fixture(golden):
  """The full head and the light one, told apart by their weights."""
  arrays = {f"mask_head.{k}": v for k, v in golden.state_dict().items()}
  is_light = not any("mask_convs_x" in name for name in arrays)
  network = make_network(golden.config, shared_tower=is_light)
  pyramid = golden.levels("feat")
  run = functools.partial(
    network.apply, method="head", padded_size=tuple(golden.config["net_hw"])
  )
  shapes = jax.eval_shape(
    functools.partial(
      network.init, method="head", padded_size=tuple(golden.config["net_hw"])
    ),
    jax.random.key(0),
    pyramid,
  )
  variables = convert(arrays, mmdet.DECOUPLED_SOLO, shapes)
  outputs = jax.jit(run)(variables, pyramid)
  jax.tree.map(
    assert_close, outputs.category_logits, golden.levels("cls_logit")
  )
  size = max(outputs.mask_sizes)
  for level, factors in enumerate(outputs.factors):
    for factor, axis in zip(factors, "xy", strict=True):
      expected = golden[f"mask_{axis}_logit_{level}"].transpose(0, 2, 3, 1)
      assert factor.feature.shape[1:3] == outputs.mask_sizes[level]
      assert_close(factor.feature, expected)
      name = f"mask_{axis}_prob_up_{level}"
      if name in golden.arrays:
        assert_close(
          resize_bilinear(jax.nn.sigmoid(factor.feature), size),
          golden[name].transpose(0, 2, 3, 1),
        )


SMALL = dict(
  num_classes=2,
  strides=(8, 16),
  num_grids=(4, 3),
  in_channels=4,
  feat_channels=8,
  stacked_convs=1,
  num_groups=2,
)


def init_head(network, pyramid, size):
  """Outputs and variables, of one program."""
  init = functools.partial(network.init_with_output, method="head")
  return jax.jit(init, static_argnums=2)(jax.random.key(0), pyramid, size)


@pytest.mark.parametrize("shared_tower", [False, True])
def test_parameter_names_and_cells(shared_tower):
  network = make_network(SMALL, shared_tower).clone(levels=(3, 4))
  pyramid = tuple(jnp.ones((1, 32 >> i, 64 >> i, 4)) for i in range(5))
  outputs, variables = init_head(network, pyramid, (128, 256))
  towers = ("mask_convs_0",)
  if not shared_tower:
    towers = ("mask_x_convs_0", "mask_y_convs_0")
  assert set(variables["params"]) == {
    *("category_convs_0", "category", *towers),
    *("mask_x_0", "mask_x_1", "mask_y_0", "mask_y_1"),
  }
  channels = variables["params"][towers[0]]["conv"]["kernel"].shape[2]
  assert channels == (6 if shared_tower else 5)
  x, y = outputs.factors[1]  # 3 x 3 cells, row-major
  np.testing.assert_array_equal(
    jnp.argmax(x.kernel, axis=1), [0, 1, 2, 0, 1, 2, 0, 1, 2]
  )
  np.testing.assert_array_equal(
    jnp.argmax(y.kernel, axis=1), [0, 0, 0, 1, 1, 1, 2, 2, 2]
  )


def test_towers_see_their_own_coordinate():
  """On a constant map, x maps vary along x only and y maps along y only."""
  network = make_network(SMALL, shared_tower=False).clone(levels=(3, 4))
  pyramid = tuple(jnp.ones((1, 32 >> i, 32 >> i, 4)) for i in range(5))
  outputs, _ = init_head(network, pyramid, (128, 128))
  x, y = (np.asarray(f.feature[0, 4:-4, 4:-4]) for f in outputs.factors[0])
  assert np.ptp(x, axis=0).max() < 1e-5 < np.ptp(x, axis=1).max()
  assert np.ptp(y, axis=1).max() < 1e-5 < np.ptp(y, axis=0).max()
