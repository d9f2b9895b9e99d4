"""Tests of solo_jax/methods/point_rend/network.py."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from solo_jax.methods.point_rend.network import sample_masks, take_class
from tests.methods.region_checks import (
  check_detections,
  check_features,
  check_proposals,
  check_stages,
  run,
)
from tests.methods.region_scene import make_scene


def test_masks_are_read_at_points_of_their_boxes():
  masks = np.zeros((1, 2, 4, 4, 3), np.float32)
  masks[0, 1, 0, 3] = [1, 2, 3]
  points = np.array([[[[0.875, 0.125]], [[0.875, 0.125]]]], np.float32)
  found = sample_masks(masks, points)
  np.testing.assert_allclose(found[0], [[[0, 0, 0]], [[1, 2, 3]]])


def test_each_region_takes_its_class():
  values = np.arange(12.0).reshape(1, 2, 2, 3)
  found = take_class(values, np.array([[2, 0]]))
  np.testing.assert_array_equal(found, [[[2, 5], [6, 9]]])


@pytest.mark.golden("model_point_rend_*.npz")
def test_fixture(golden):
  scene = make_scene(golden)
  found = run(scene)
  features, outputs = found.features, found.outputs
  check_features(golden, scene, features, found.raw)
  check_proposals(golden, found.chosen)
  check_stages(golden, found.chosen, found.stages)
  # A cell more or less at the cut of the most uncertain ones.
  check_detections(golden, scene, outputs, share_off=1e-3, within=1e-3)
  boxes, valid = outputs.detections.boxes, outputs.detections.valid
  coarse = nn.apply(
    lambda network: network.coarse_logits(features, boxes), scene.network
  )
  found = np.asarray(jax.jit(coarse)(scene.variables))[np.asarray(valid)]
  np.testing.assert_allclose(
    found.transpose(0, 3, 1, 2), golden["coarse_logits"], rtol=1e-4, atol=1e-4
  )
