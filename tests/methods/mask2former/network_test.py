"""Tests of solo_jax/methods/mask2former/network.py."""

import functools

import jax
import numpy as np
import pytest

from solo_jax.methods.mask2former.merging import (
  Queries,
  merge_instances,
  merge_panoptic,
  merge_semantic,
)


def assert_close(actual, expected, tolerance):
  atol = tolerance * np.abs(expected).max()
  np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@functools.cache
def compiled(network):
  return jax.jit(functools.partial(network.apply, train=False))


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
  outputs = compiled(model.network)(model.variables[0], image, image_size)
  check_outputs(golden, outputs.class_logits, outputs.mask_logits)


def last_queries(golden, model, pad_image):
  """Both logits of the last output, and the sizes of its image."""
  config = golden.config
  if "pixel_values" in golden.arrays:  # squashed before
    original_size = tuple(config["image_hw"])
    image_size = golden["pixel_values"].shape[2:]
    class_logits, mask_logits = golden["class_logits"], golden["mask_logits"]
  else:
    image, sizes = pad_image(golden["image_rgb"])
    outputs = compiled(model.network)(model.variables[-1], image, sizes)
    image_size, original_size = sizes[0], tuple(config["original_hw"])
    class_logits, mask_logits = (
      np.asarray(x[-1]) for x in (outputs.class_logits, outputs.mask_logits)
    )
  return Queries(
    class_logits=class_logits[0],
    mask_logits=mask_logits[0],
    image_size=tuple(image_size),
    original_size=original_size,
  )


@pytest.mark.golden("m2f_model_*.npz")
def test_fixture_results(golden, model, pad_image):
  config = golden.config
  queries = last_queries(golden, model, pad_image)
  num_things = config["num_things"]
  found = merge_instances(
    queries, things=range(num_things), max_detections=config["top_k"]
  )
  order = np.argsort(-golden["instance_scores"], kind="stable")
  np.testing.assert_allclose(
    found.scores, golden["instance_scores"][order], atol=2e-4
  )
  np.testing.assert_array_equal(found.labels, golden["instance_labels"][order])
  masks = golden.masks("instance_masks_packed", queries.original_size)[order]
  assert np.mean(found.masks != masks) <= 1e-3
  panoptic = merge_panoptic(
    queries,
    things=range(num_things),
    min_score=config["object_mask_threshold"],
    min_visible=config["overlap_threshold"],
  )
  ids = panoptic.ids
  if "panoptic_segments" in golden.arrays:
    np.testing.assert_array_equal(
      [(s.id, s.label, s.is_thing) for s in panoptic.segments],
      golden["panoptic_segments"][:, :3],
    )
  else:  # mmdet: class + 1000 * number of the thing, void is K
    numbers = np.cumsum([s.is_thing for s in panoptic.segments])
    values = [
      s.label + 1000 * s.is_thing * number
      for s, number in zip(panoptic.segments, numbers, strict=True)
    ]
    ids = np.asarray([config["num_classes"], *values])[ids]
  assert np.mean(ids != golden["panoptic"]) <= 1e-3
  if "semantic" in golden.arrays:
    labels = merge_semantic(queries).ids - 1
    assert np.mean(labels != golden["semantic"]) <= 1e-3
