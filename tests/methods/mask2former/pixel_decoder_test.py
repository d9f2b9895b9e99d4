"""Tests of solo_jax/methods/mask2former/pixel_decoder.py."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.conversion import mask2former as names
from solo_jax.conversion.mapping import convert
from solo_jax.methods.mask2former.pixel_decoder import PixelDecoder
from tests.random_variables import random_variables


def assert_close(actual, expected, tolerance):
  atol = tolerance * np.abs(expected).max()
  np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def make_decoder(config, **options):
  return PixelDecoder(
    channels=config["feature_size"],
    mask_channels=config["mask_feature_size"],
    num_layers=config["encoder_layers"],
    num_heads=config["num_heads"],
    hidden=config["encoder_ffn"],
    **options,
  )


def convert_decoder(golden, target):
  """Variables of a pixel decoder alone, named as below a whole model."""
  prefix = "model.pixel_level_module.decoder."
  source = {prefix + k: v for k, v in golden.state_dict().items()}
  rules = [
    rule
    for rule in names.TRANSFORMERS
    if rule.target and "pixel_decoder" in rule.target
  ]
  whole = {"params": {"pixel_decoder": target["params"]}}
  return {"params": convert(source, rules, whole)["params"]["pixel_decoder"]}


@pytest.mark.golden("m2f_pixel_decoder*.npz")
def test_fixture(golden):
  decoder = make_decoder(golden.config)
  maps = tuple(golden.channels_last(f"feature_{i}") for i in range(4))
  target = jax.eval_shape(decoder.init, jax.random.key(0), maps)
  variables = convert_decoder(golden, target)

  @jax.jit
  def apply(variables, maps):
    return decoder.apply(
      variables,
      maps,
      capture_intermediates=lambda module, _: (module.name or "").startswith(
        "layer_"
      ),
    )

  (levels, features), state = apply(variables, maps)
  for i in range(golden.config["encoder_layers"]):
    (layer,) = state["intermediates"][f"layer_{i}"]["__call__"]
    assert_close(layer, golden[f"encoder_layer_{i}"], 2e-5)
  for i, level in enumerate(levels):
    assert_close(level, golden.channels_last(f"multi_scale_{i}"), 2e-5)
  assert_close(features, golden.channels_last("mask_features"), 2e-5)


def test_remat_and_bfloat16_give_the_same():
  config = dict(
    feature_size=32,
    mask_feature_size=8,
    encoder_layers=1,
    num_heads=4,
    encoder_ffn=16,
  )
  rng = np.random.default_rng(0)
  maps = tuple(
    rng.standard_normal((1, n, n + 1, 4)).astype("f") for n in (16, 8, 4, 2)
  )
  plain = make_decoder(config)
  variables = random_variables(plain.init, maps)

  def gradient(decoder):
    def loss(variables):
      levels, features = decoder.apply(variables, maps)
      return jnp.sum(jnp.square(features)).astype(jnp.float32) + jnp.sum(
        levels[0]
      ).astype(jnp.float32)

    return jax.jit(jax.value_and_grad(loss))(variables)

  expected_loss, expected = gradient(plain)
  loss, actual = gradient(make_decoder(config, remat=True))
  np.testing.assert_allclose(loss, expected_loss, rtol=1e-3)
  flat, _ = jax.flatten_util.ravel_pytree(expected)
  assert_close(jax.flatten_util.ravel_pytree(actual)[0], flat, 1e-3)
  loss, _ = gradient(make_decoder(config, dtype=jnp.bfloat16))
  np.testing.assert_allclose(loss, expected_loss, rtol=0.05)
