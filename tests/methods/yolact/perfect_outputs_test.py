"""Tests of solo_jax/methods/yolact/perfect_outputs.py; more: method_test.py."""

import numpy as np

from solo_jax.building import build_method
from tests.config_test import load
from tests.methods.yolact.method_test import make_batch


def test_no_more_than_there_is_room_for_and_nothing_outside_the_box():
  config = load("yolact_shapes")
  config.decode.max_detections = 2
  batch = make_batch()
  batch.masks.data[0, 0, 31, 31] = 255  # outside the box of the instance
  outputs = build_method(config).perfect_outputs(batch)
  assert outputs.mask_probs.shape == (1, 2, 32, 32)
  assert outputs.detections.valid.tolist() == [[True, True]]
  assert outputs.mask_probs[0, 0, 31, 31] == 0
  assert outputs.mask_probs[0, 0, 5, 5] == 1
  np.testing.assert_array_equal(outputs.detections.scores, [[1, 1]])
