"""Whole networks of fixtures, with converted weights."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.conversion import checkpoint_file
from solo_jax.conversion import mask2former as names
from solo_jax.conversion.mapping import convert
from solo_jax.methods.mask2former.network import Mask2Former
from solo_jax.nn.backbones.resnet import DEPTHS, ResNet
from solo_jax.nn.backbones.swin import Swin

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def make_backbone(config):
  if config.get("type") == "ResNet":
    widths = tuple(config["base_channels"] * 2**i for i in range(4))
    return ResNet(**DEPTHS[config["depth"]], widths=widths)
  return Swin(
    embed_dim=config["embed_dim"],
    depths=tuple(config["depths"]),
    num_heads=tuple(config["num_heads"]),
    window_size=config["window_size"],
  )


def make_network(config):
  return Mask2Former(
    backbone=make_backbone(config.get("swin") or config["backbone"]),
    num_classes=config["num_classes"],
    num_queries=config["num_queries"],
    channels=config["feature_size"],
    mask_channels=config["mask_feature_size"],
    num_heads=config["num_heads"],
    num_encoder_layers=config["encoder_layers"],
    encoder_hidden=config["encoder_ffn"],
    num_decoder_layers=config["decoder_layers"] - 1,  # one too many there
    decoder_hidden=config["decoder_ffn"],
    remat_encoder=False,
    mean=MEAN,
    std=STD,
    channel_order="rgb",
    dtype=jnp.float32,
  )


@functools.cache
def variable_shapes(network):
  return jax.eval_shape(
    functools.partial(network.init, train=False),
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8),
    jax.ShapeDtypeStruct((1, 2), jnp.int32),
  )


def sources(golden):
  """State dict and table of each file of a fixture's weights."""
  config = golden.config
  if "folder" in config:
    folder = golden.path.parent / config["folder"]
    for path in (*folder.glob("*.safetensors"), *folder.glob("*.bin")):
      yield checkpoint_file.read(path).arrays, names.TRANSFORMERS
  else:
    yield golden.state_dict(), names.MMDET
    path = golden.path.parent / config["pickle"]
    yield checkpoint_file.read(path).arrays, names.ORIGINAL


@pytest.fixture
def model(golden):
  """A fixture's network, variables of each of its files, and its input."""
  network = make_network(golden.config)
  variables = [
    convert(names.prepare(arrays), rules, variable_shapes(network))
    for arrays, rules in sources(golden)
  ]
  assert variables
  return types.SimpleNamespace(network=network, variables=variables)


@pytest.fixture(scope="session")
def apply_normalized():
  """Runs backbone and decoders on a normalised image."""

  @functools.partial(jax.jit, static_argnums=0)
  def apply(network, variables, x):
    def run(network, x):
      maps = network.backbone(x, train=False)
      levels, features = network.pixel_decoder(maps)
      return maps, levels, features, network.decoder(levels, features)

    return network.apply(variables, x, method=run)

  return apply


@pytest.fixture(scope="session")
def pad_image():
  """Pads an image to multiples of 32. (image, image_size), both [1, ...]."""

  def pad(image):
    height, width = image.shape[:2]
    padding = (0, -height % 32), (0, -width % 32), (0, 0)
    return np.pad(image, padding)[None], np.asarray([[height, width]])

  return pad
