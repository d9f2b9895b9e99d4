"""Tests of solo_jax/methods/yolact/method.py."""

import copy

import jax
import numpy as np
import pytest

from solo_jax import types
from solo_jax.building import build_method
from solo_jax.methods.yolact.method import problems
from tests.config_test import load


@pytest.fixture(scope="module")
def config():
  return load("yolact_shapes").to_dict()


@pytest.mark.parametrize(
  ("section", "field", "value", "message"),
  [
    ("transforms", "mask_frame", "box", "masks of whole images"),
    ("transforms", "mask_stride", 8, "must not be coarser"),
    ("transforms", "image_size", (126, 128), "need multiples of it"),
    ("network", "prior_sizes", ((8,), (9, 10)), "as many sizes"),
    ("network", "mask_score_channels", (8,), "both or neither"),
    ("loss", "mask_score_weight", 25.0, "both or neither"),
  ],
)
def test_problems_of_yolact_configs_are_listed(
  config, section, field, value, message
):
  assert problems(config) == []
  config = copy.deepcopy(config)
  config[section][field] = value
  (found,) = problems(config)
  assert message in found


def make_batch():
  """One image of three instances, the last two in one place."""
  masks = np.zeros((1, 4, 32, 32), np.uint8)
  masks[0, 0, 2:10, 2:10] = 255
  masks[0, 1:3, 20:21, 20:21] = [[[200]], [[90]]]
  boxes = np.zeros((1, 4, 4), np.float32)
  boxes[0, :3] = [[8, 8, 40, 40], [80, 80, 84, 84], [80, 80, 84, 84]]
  return types.Batch(
    image=np.zeros((1, 128, 128, 3), np.uint8),
    image_size=np.array([[128, 128]]),
    image_valid=np.array([True]),
    masks=types.PackedMasks(data=masks, encoding="coverage", stride=4),
    centers=np.zeros((1, 4, 2), np.float32),
    boxes_xyxy=boxes,
    labels=np.array([[1, 2, 3, 0]], np.int32),
    valid=np.array([[True, True, True, False]]),
    num_dropped=np.zeros(1, np.int32),
    row=np.zeros(1, np.int32),
  )


def test_perfect_outputs_decode_to_the_targets(config):
  method = build_method(load("yolact_shapes"))
  batch = make_batch()

  @jax.jit
  def detect(batch):
    return method.decode(method.perfect_outputs(batch), batch.image_size)

  found = jax.tree.map(np.asarray, detect(batch))
  assert found.valid.sum() == 3
  np.testing.assert_allclose(found.boxes_xyxy[0, :4], batch.boxes_xyxy[0])
  np.testing.assert_array_equal(found.labels[0, :3], [1, 2, 3])
  np.testing.assert_allclose(
    found.masks.probs[0, :4], batch.masks.data[0] / 255, rtol=1e-6
  )


def test_instances_without_a_prior_or_a_cell_are_lost(config):
  """Two instances want one prior in mmdetection's assignment alone."""
  method = build_method(load("yolact_shapes"))
  found = jax.jit(method.lost_instances)(make_batch())
  _, no_prior, no_cell = found.is_lost
  assert not no_prior.any()
  np.testing.assert_array_equal(no_cell, [False, False, True, False])
  assert (found.sizes["priors"][:3] >= 1).all()
  changed = load("yolact_shapes")
  changed.loss.assignment = "best_prior"
  find = jax.jit(build_method(changed).lost_instances)
  _, no_prior, _ = find(make_batch()).is_lost
  np.testing.assert_array_equal(no_prior, [False, True, False, False])
