"""Tests of solo_jax/methods/mask2former/network.py."""

import functools

import jax
import numpy as np
import pytest


def assert_close(actual, expected, tolerance):
  atol = tolerance * np.abs(expected).max()
  np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def check_outputs(golden, classes, masks):
  """Compares what a fixture has of the outputs, whatever it calls them."""
  last = golden.config["decoder_layers"] - 1
  compared = 0
  for n in range(last + 1):
    for kind, outputs in (("class_logits", classes), ("mask_logits", masks)):
      expected = [
        golden.arrays[name]
        for name in (f"{kind}_{n}", f"aux_{kind}_{n}")
        if name in golden.arrays
      ]
      if n == last and kind in golden.arrays:
        expected.append(golden[kind])
      for array in expected:
        assert_close(outputs[n], array, 2e-4)
        compared += 1
  assert compared >= last + 3


@pytest.mark.golden("m2f_model_*.npz")
def test_fixture(golden, model, apply_normalized):
  name = "pixel_values" if "pixel_values" in golden.arrays else "net_input"
  x = golden.channels_last(name)
  for variables in model.variables:
    maps, levels, features, outputs = apply_normalized(
      model.network, variables, x
    )
    for i, x_map in enumerate(maps, start=1):
      assert_close(x_map, golden.channels_last(f"stage{i}"), 5e-5)
    if "mask_features" in golden.arrays:
      for i, level in enumerate(levels):
        assert_close(level, golden.channels_last(f"multi_scale_{i}"), 5e-5)
      assert_close(features, golden.channels_last("mask_features"), 5e-5)
    check_outputs(golden, *outputs)


@pytest.mark.golden("m2f_model_mmdet*.npz")
def test_fixture_from_pixels(golden, model, pad_image):
  image, image_size = pad_image(golden["image_rgb"])
  outputs = jax.jit(functools.partial(model.network.apply, train=False))(
    model.variables[0], image, image_size
  )
  check_outputs(golden, outputs.class_logits, outputs.mask_logits)
