"""Tests of solo_jax/nn/fpn.py."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.conversion.mapping import Rule, convert
from solo_jax.conversion.mmdet import BACKBONE_AND_NECK
from solo_jax.nn.backbones.resnet import ResNet
from solo_jax.nn.fpn import FPN


class Trunk(nn.Module):
  """Backbone and pyramid, named as in a method's network."""

  channels: int
  resnet: dict

  def setup(self):
    self.backbone = ResNet(**self.resnet)
    self.fpn = FPN(self.channels)

  def __call__(self, x):
    return self.fpn(self.backbone(x, train=False))


@pytest.mark.golden("model_solov2_*.npz")
def test_fixture_pyramid(golden):
  network = Trunk(golden.config["fpn_out"], resnet=golden.resnet)
  x = golden["net_input"].transpose(0, 2, 3, 1)
  variables = convert(
    golden.state_dict(),
    (*BACKBONE_AND_NECK, Rule(r"mask_head\..*", None)),
    jax.eval_shape(network.init, jax.random.key(0), x),
  )
  pyramid = jax.jit(network.apply)(variables, x)
  for level, actual in enumerate(pyramid, start=2):
    expected = golden[f"p{level}"].transpose(0, 2, 3, 1)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * scale)


def make_features(side, channels=(2, 3, 4, 5)):
  rng = np.random.default_rng(0)
  return [
    rng.standard_normal((1, -(-side // 2**i), -(-side // 2**i), c)).astype("f")
    for i, c in enumerate(channels)
  ]


def test_top_down_sum_by_hand():
  features = make_features(8)
  network = FPN(2)
  shapes = jax.eval_shape(network.init, jax.random.key(0), features)
  params = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)["params"]
  # Laterals that pass channel 0, outputs that pass their input.
  for level, feature in enumerate(features, start=2):
    lateral = np.zeros((1, 1, feature.shape[-1], 2), np.float32)
    lateral[0, 0, 0, 0] = 1
    output = np.zeros((3, 3, 2, 2), np.float32)
    output[1, 1] = np.eye(2)
    params[f"lateral_{level}"]["kernel"] = lateral
    params[f"output_{level}"]["kernel"] = output
  p2, _, p4, p5, p6 = jax.jit(network.apply)({"params": params}, features)
  c2, c3, c4, c5 = (feature[0, :, :, 0] for feature in features)
  double = functools.partial(np.kron, b=np.ones((2, 2)))
  np.testing.assert_allclose(p5[0, :, :, 0], c5, atol=1e-6)
  np.testing.assert_allclose(p4[0, :, :, 0], c4 + double(c5), atol=1e-6)
  expected = c2 + double(c3 + double(c4 + double(c5)))
  np.testing.assert_allclose(p2[0, :, :, 0], expected, atol=1e-6)
  np.testing.assert_array_equal(p6, p5[:, ::2, ::2])


def test_odd_sizes_and_bfloat16():
  features = make_features(9)  # 9, 5, 3, 2
  pyramid, variables = jax.eval_shape(
    FPN(2, dtype=jnp.bfloat16).init_with_output, jax.random.key(0), features
  )
  assert [p.shape[1] for p in pyramid] == [9, 5, 3, 2, 1]
  assert all(p.dtype == jnp.bfloat16 for p in pyramid)
  assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(variables))


def test_levels_of_unsuitable_sizes_are_refused():
  features = make_features(8)
  features[1] = features[1][:, :3]
  with pytest.raises(ValueError, match="multiple of 32"):
    jax.eval_shape(FPN(2).init, jax.random.key(0), features)


def test_norms_take_the_place_of_biases():
  network = FPN(4, norm="batch")
  features = make_features(16)
  variables = jax.jit(network.init)(jax.random.key(0), features)
  assert set(variables["params"]["lateral_2"]) == {"kernel"}
  assert set(variables["params"]["output_5_norm"]) == {"scale", "bias"}
  pyramid, updated = jax.jit(
    functools.partial(network.apply, train=True, mutable=["batch_stats"])
  )(variables, features)
  # Batch statistics: every channel of P2 to P5 has mean 0.
  for level in pyramid[:4]:
    np.testing.assert_allclose(np.mean(level, (0, 1, 2)), 0, atol=1e-5)
  moved = updated["batch_stats"]["lateral_2_norm"]["mean"]
  assert np.abs(moved).max() > 0
