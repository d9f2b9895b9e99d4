"""Tests of solo_jax/methods/solo/network.py."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.conversion import mmdet
from solo_jax.conversion.mapping import convert
from solo_jax.methods.grid.masks import mask_logits
from solo_jax.methods.solo.network import SOLO
from solo_jax.nn.resize import resize_bilinear


class NoBackbone(nn.Module):
  """Stands in where only the head runs."""


def make_network(config):
  return SOLO(
    backbone=NoBackbone(),
    num_classes=config["num_classes"],
    levels=(2, 3, 4, 5, 6),
    strides=tuple(config["strides"]),
    num_grids=tuple(config["num_grids"]),
    fpn_channels=config["in_channels"],
    head_channels=config["feat_channels"],
    num_head_convs=config["stacked_convs"],
    num_groups=config["num_groups"],
    mean=(0, 0, 0),
    std=(1, 1, 1),
    channel_order="rgb",
    dtype=jnp.float32,
  )


def assert_close(actual, expected):
  """Within 1e-4 of the largest value."""
  scale = np.abs(expected).max()
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.golden("head_solo[!v]*npz")
def test_head_fixture(golden):
  network = make_network(golden.config)
  pyramid = golden.levels("feat")
  padded_size = tuple(golden.config["net_hw"])
  shapes = jax.eval_shape(
    functools.partial(network.init, method="head", padded_size=padded_size),
    jax.random.key(0),
    pyramid,
  )
  arrays = {f"mask_head.{k}": v for k, v in golden.state_dict().items()}
  variables = convert(arrays, mmdet.SOLO, shapes)

  @jax.jit
  def run(variables, pyramid):
    outputs = network.apply(variables, pyramid, padded_size, method="head")
    masks = []
    for (factor,), size in zip(
      outputs.factors, outputs.mask_sizes, strict=True
    ):
      logits = mask_logits(
        factor.feature[0], factor.kernel, factor.bias, size
      ).transpose(1, 2, 0)[None]
      masks.append(logits)
    return outputs, tuple(masks)

  outputs, masks = run(variables, pyramid)
  jax.tree.map(
    assert_close, outputs.category_logits, golden.levels("cls_logit")
  )
  jax.tree.map(assert_close, masks, golden.levels("mask_logit"))
  size = max(outputs.mask_sizes)
  for level, logits in enumerate(masks):
    if f"mask_prob_up_{level}" in golden.arrays:
      assert_close(
        resize_bilinear(jax.nn.sigmoid(logits), size),
        golden[f"mask_prob_up_{level}"].transpose(0, 2, 3, 1),
      )


def test_parameter_names_shapes_and_first_probabilities():
  config = dict(
    num_classes=2,
    strides=(8, 16),
    num_grids=(4, 3),
    in_channels=4,
    feat_channels=8,
    stacked_convs=2,
    num_groups=2,
  )
  network = make_network(config).clone(levels=(3, 4))
  pyramid = tuple(jnp.ones((1, 32 >> i, 64 >> i, 4)) for i in range(5))
  outputs, variables = jax.jit(
    lambda: network.init_with_output(
      jax.random.key(0), pyramid, (128, 256), method="head"
    )
  )()
  params = variables["params"]
  assert set(params) == {
    *("category_convs_0", "category_convs_1", "category"),
    *("mask_convs_0", "mask_convs_1", "mask_0", "mask_1"),
  }
  assert params["mask_convs_0"]["conv"]["kernel"].shape == (3, 3, 6, 8)
  assert params["mask_1"]["kernel"].shape == (1, 1, 8, 9)
  np.testing.assert_allclose(
    jax.nn.sigmoid(params["mask_0"]["bias"]), 0.01, 1e-5
  )
  assert outputs.mask_sizes == ((32, 64), (16, 32))
  assert outputs.factors[0][0].feature.shape == (1, 16, 32, 8)
