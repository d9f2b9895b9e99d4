"""Tests of solo_jax/backbones.py."""

import jax
import jax.numpy as jnp
import pytest

from solo_jax import backbones
from solo_jax.errors import UserError
from tests.config_test import load

SIDE = 64


def section(name, **changed):
  config = load("solov2_shapes").backbone.to_dict()
  if name != "resnet":
    shared = {"frozen_stages", "remat", "weights"}
    shared |= {"norm"} if name == "efficientnet_lite0" else set()
    config = {key: config[key] for key in shared}
  if name == "swin":
    config |= dict(embed_dim=32, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8))
  return config | dict(name=name) | changed


@pytest.mark.parametrize("name", backbones.BACKBONES)
def test_every_backbone_keeps_the_contract(name):
  backbone = backbones.make_backbone(
    section(name), dtype=jnp.float32, axis_name=None
  )

  def run():
    x = jnp.zeros((1, SIDE, SIDE, 3))
    variables = backbone.init(jax.random.key(0), x, train=False)
    return variables, backbone.apply(
      variables, x, train=False, row=jnp.zeros(1, jnp.int32)
    )

  variables, maps = jax.eval_shape(run)
  sides = [SIDE // stride for stride in (4, 8, 16, 32)]
  assert [x.shape[1:3] for x in maps] == [(side, side) for side in sides]
  names = variables["params"]
  is_frozen = backbones.frozen_rule(section(name, frozen_stages=1))
  assert 0 < sum(map(is_frozen, names)) < len(names)
  is_frozen = backbones.frozen_rule(section(name, frozen_stages=0))
  assert not any(map(is_frozen, names))


def test_frozen_stages_of_efficientnet_lite():
  lite0 = section("efficientnet_lite0", frozen_stages=1)
  is_frozen = backbones.frozen_rule(lite0)
  assert is_frozen("stem_conv") and is_frozen("block_0")
  assert not is_frozen("block_15")


def test_constant_norms_are_frozen_in_every_stage():
  constant = section("resnet", frozen_stages=0, norm="constant")
  is_frozen = backbones.frozen_rule(constant)
  assert is_frozen("layer3_0/bn1/scale")
  assert is_frozen("layer2_0/downsample_bn/bias")
  assert not is_frozen("layer3_0/conv1/kernel")
  is_frozen = backbones.frozen_rule(constant | dict(norm="frozen"))
  assert not is_frozen("layer3_0/bn1/scale")


def test_frozen_stages_of_swin():
  is_frozen = backbones.frozen_rule(section("swin", frozen_stages=2))
  for name in ("patch_embed", "patch_norm", "stage2_1", "merge2", "norm1"):
    assert is_frozen(name)
  for name in ("stage3_0", "merge3", "norm4"):
    assert not is_frozen(name)


def test_an_unknown_name_lists_the_known_ones():
  with pytest.raises(UserError, match="name='vgg' is unknown.*'resnet'"):
    backbones.make_backbone(section("vgg"), dtype=jnp.float32, axis_name=None)


def test_without_pretrained_weights():
  variables = {"params": {"backbone": {}}, "batch_stats": {}}
  found = backbones.load_pretrained(variables, section("resnet", weights=None))
  assert found is variables


def test_pretrained_weights_without_statistics(monkeypatch, tmp_path):
  path = tmp_path / "swin.pth"
  path.touch()
  variables = {"params": {"backbone": {"w": 1}}, "batch_stats": {}}
  monkeypatch.setattr(
    backbones.swin_weights, "load_backbone", lambda *_: {"params": {"w": 2}}
  )
  found = backbones.load_pretrained(variables, section("swin", weights=path))
  assert found == {"params": {"backbone": {"w": 2}}, "batch_stats": {}}


@pytest.mark.parametrize(
  ("name", "weights", "message"),
  [
    ("resnet", "none.pth", "weights='none.pth' is neither a file"),
    ("resnet", "efficientnet_lite0", "'efficientnet_lite0' is neither a file"),
    ("efficientnet_lite0", "r50.pth", "has one set of weights"),
    (
      "swin",
      "none.pth",
      "weights='none.pth' is not a file; download a classifier",
    ),
  ],
)
def test_weights_of_no_such_backbone(name, weights, message):
  variables = {"params": {"backbone": {}}, "batch_stats": {"backbone": {}}}
  with pytest.raises(UserError, match=message):
    backbones.load_pretrained(variables, section(name, weights=weights))


@pytest.mark.parametrize("name", backbones.BACKBONES)
def test_pretrained_backbone_replaces_the_random_one(
  monkeypatch, tmp_path, name
):
  variables = {
    "params": {"backbone": {"w": 1}, "head": {"w": 2}},
    "batch_stats": {"backbone": {"m": 3}},
  }
  loaded = {"params": {"w": 10}, "batch_stats": {"m": 30}}
  modules = (
    backbones.torchvision,
    backbones.lite_weights,
    backbones.swin_weights,
  )
  for module in modules:
    monkeypatch.setattr(module, "load_backbone", lambda *_: loaded)
  darknet = backbones.yolact_weights
  monkeypatch.setattr(darknet, "load_darknet", lambda *_: loaded)
  path = tmp_path / "weights.pth"
  path.touch()
  weights = name if name == "efficientnet_lite0" else str(path)
  given = section(name, weights=weights)
  assert backbones.load_pretrained(variables, given) == {
    "params": {"backbone": {"w": 10}, "head": {"w": 2}},
    "batch_stats": {"backbone": {"m": 30}},
  }
