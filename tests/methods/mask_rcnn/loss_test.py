"""Tests of solo_jax/methods/mask_rcnn/loss.py."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from solo_jax import types
from solo_jax.losses.cross_entropy import sigmoid_cross_entropy
from solo_jax.methods.mask_rcnn.loss import (
  loss_of_features,
  mean_of_positives,
  semantic_loss,
)
from solo_jax.methods.regions.sampling import Regions
from tests.methods.region_checks import check_training
from tests.methods.region_scene import make_scene
from tests.methods.small_regions import make_batch


def regions_of(positive):
  positive = np.asarray(positive)
  return Regions(
    boxes=np.zeros((*positive.shape, 4), np.float32),
    valid=np.ones(positive.shape, bool),
    is_positive=positive,
    instance=np.zeros(positive.shape, np.int32),
    is_instance=np.zeros(positive.shape, bool),
  )


def test_mean_over_positive_regions_of_all_images():
  losses = np.stack([np.full((3, 2, 2), 1.0), np.full((3, 2, 2), 4.0)])
  regions = regions_of([[True, True, False], [True, False, False]])
  np.testing.assert_allclose(mean_of_positives(losses, regions, None), 2.0)
  nothing = regions_of(np.zeros((2, 3), bool))
  assert float(mean_of_positives(losses * np.inf, nothing, None)) == 0


class SemanticBatch:
  semantic = np.array([[[0, 255], [1, 1]], [[0, 0], [0, 0]]], np.uint8)
  image_valid = np.array([True, False])


def test_ignored_pixels_count_in_the_mean():
  logits = np.zeros((2, 2, 2, 2), np.float32)
  # 3 of 8 pixels count, log 2 each.
  loss, dropped = semantic_loss(logits, SemanticBatch)
  np.testing.assert_allclose(loss, 3 / 8 * np.log(2), rtol=1e-6)
  assert dropped == 0


@pytest.mark.golden("rcnn_losses*.npz")
def test_fixture_of_masks(golden):
  count = len(golden["mask_labels"])
  own = golden["mask_logits"][np.arange(count), golden["mask_labels"]]
  regions = regions_of(np.ones((1, count), bool))
  for name in ("tv", "mmdet"):

    def loss(logits, name=name):
      targets = golden[f"mask_target_{name}"].astype(np.float32)
      losses = sigmoid_cross_entropy(logits, targets)
      return mean_of_positives(losses[None], regions, None)

    value, gradient = jax.value_and_grad(loss)(own)
    np.testing.assert_allclose(value, golden[f"mask_loss_{name}"], rtol=1e-5)
    np.testing.assert_allclose(gradient, golden[f"mask_grad_{name}"], atol=1e-6)


@pytest.mark.golden("model_mask_rcnn_tv_*.npz")
def test_fixture_of_torchvision(golden, request):
  if golden.config["version"] == 2:  # the first version trains on tiles
    request.getfixturevalue("pool_by_products")
  scene = make_scene(golden)
  check_training(
    golden, scene, functools.partial(loss_of_features, **scene.settings)
  )


@pytest.mark.golden("model_mask_rcnn_mmdet_*.npz")
def test_fixture_of_mmdet(golden, pool_by_products):
  scene = make_scene(golden)
  check_training(
    golden, scene, functools.partial(loss_of_features, **scene.settings)
  )


@pytest.mark.slow  # HTC has the same stages, and their masks feed each other
@pytest.mark.golden("model_cascade_*.npz")
def test_fixture_of_a_cascade(golden, pool_by_products):
  scene = make_scene(golden)
  check_training(
    golden, scene, functools.partial(loss_of_features, **scene.settings)
  )


@pytest.mark.golden("model_htc_*.npz")
def test_fixture_of_htc(golden, pool_by_products):
  scene = make_scene(golden)
  check_training(
    golden, scene, functools.partial(loss_of_features, **scene.settings)
  )


def test_pixels_of_unknown_semantic_classes_are_ignored_and_counted():
  batch = make_batch(1)
  labels = np.array([[[0, 1], [3, types.NO_STUFF]]], np.uint8)
  batch = dataclasses.replace(batch, semantic=labels)
  logits = np.log([0.5, 0.25, 0.25]) * np.ones((1, 2, 2, 1))
  loss, dropped = semantic_loss(logits, batch)
  np.testing.assert_allclose(loss, (np.log(2) + np.log(4)) / 4, rtol=1e-6)
  assert dropped == 1
