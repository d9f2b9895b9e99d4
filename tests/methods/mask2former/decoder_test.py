"""Tests of solo_jax/methods/mask2former/decoder.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.conversion import mask2former as names
from solo_jax.conversion.mapping import convert
from solo_jax.methods.mask2former.decoder import MaskedDecoder, blocked_pixels


def assert_close(actual, expected, tolerance):
  atol = tolerance * np.abs(expected).max()
  np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def make_decoder(config):
  return MaskedDecoder(
    num_classes=config["num_classes"],
    num_queries=config["num_queries"],
    channels=config["hidden_dim"],
    mask_channels=config["mask_feature_size"],
    num_layers=config["decoder_layers"] - 1,  # counted one too many there
    num_heads=config["num_heads"],
    hidden=config["decoder_ffn"],
  )


def convert_decoder(golden, target):
  """Variables of a decoder alone, named as in a whole model."""
  source = {
    k if k.startswith("class_predictor") else f"model.{k}": v
    for k, v in golden.state_dict().items()
  }
  rules = [
    rule
    for rule in names.TRANSFORMERS
    if rule.target and rule.target.startswith("params/decoder/")
  ]
  whole = {"params": {"decoder": target["params"]}}
  variables = convert(names.prepare(source), rules, whole)
  return {"params": variables["params"]["decoder"]}


@pytest.mark.golden("m2f_decoder*.npz")
def test_fixture(golden):
  config = golden.config
  decoder = make_decoder(config)
  levels = tuple(golden.channels_last(f"multi_scale_{i}") for i in range(3))
  features = golden.channels_last("mask_features")
  target = jax.eval_shape(decoder.init, jax.random.key(0), levels, features)
  variables = convert_decoder(golden, target)

  @jax.jit
  def apply(variables, levels, features):
    (classes, masks), state = decoder.apply(
      variables,
      levels,
      features,
      capture_intermediates=lambda module, _: (module.name or "").startswith(
        "layer_"
      ),
    )
    return classes, masks, state["intermediates"]

  classes, masks, layers = apply(variables, levels, features)
  num_layers = config["decoder_layers"] - 1
  for n in range(num_layers + 1):
    assert_close(classes[n], golden[f"class_logits_{n}"], 5e-5)
    assert_close(masks[n], golden[f"mask_logits_{n}"], 5e-5)
  for n in range(num_layers):
    (query,) = layers[f"layer_{n}"]["__call__"]
    assert_close(query, golden[f"query_{n}"], 5e-5)


@pytest.mark.golden("m2f_decoder*.npz")
def test_fixture_blocked_pixels(golden):
  config = golden.config
  num_layers = config["decoder_layers"] - 1
  everything = 0
  for n in range(num_layers):
    # The logits that the peer had, unless a bit of them could tip over.
    assert golden[f"mask_margin_{n}"] > 1e-5
    height, width = config["sizes"][n % 3]
    blocked = blocked_pixels(golden[f"mask_logits_{n}"], (height, width))
    shape = (config["batch"], config["num_queries"], height * width)
    before = np.unpackbits(
      golden[f"blocked_{n}_packed"], axis=1, count=height * width
    )
    before = before.astype(bool).reshape(shape)
    looks_everywhere = golden[f"all_blocked_{n}"]
    np.testing.assert_array_equal(before.all(-1), looks_everywhere)
    everything += looks_everywhere.sum()
    np.testing.assert_array_equal(
      blocked, before & ~looks_everywhere[..., None]
    )
  assert everything  # or the rule was not tested


def test_no_gradient_passes_the_attention_mask():
  logits = jnp.linspace(-1, 1, 16).reshape(1, 1, 4, 4)
  gradient = jax.grad(
    lambda x: jnp.sum(jnp.where(blocked_pixels(x, (2, 2)), 0.0, 1.0))
  )(logits)
  np.testing.assert_array_equal(gradient, 0)


def test_a_pyramid_of_other_width_is_projected():
  config = dict(
    num_classes=2,
    num_queries=3,
    hidden_dim=8,
    mask_feature_size=4,
    decoder_layers=2,
    num_heads=2,
    decoder_ffn=8,
  )
  decoder = make_decoder(config)
  levels = tuple(jnp.ones((1, n, n, 12)) for n in (1, 2, 4))
  shapes = jax.eval_shape(
    decoder.init, jax.random.key(0), levels, jnp.ones((1, 8, 8, 4))
  )
  assert shapes["params"]["input_2"]["kernel"].shape == (1, 1, 12, 8)
  levels = tuple(x[..., :8] for x in levels)
  shapes = jax.eval_shape(
    decoder.init, jax.random.key(0), levels, jnp.ones((1, 8, 8, 4))
  )
  assert "input_2" not in shapes["params"]
