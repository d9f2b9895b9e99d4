"""Tests of solo_jax/methods/solov2/decode.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.grid.decode import DecodeSettings, decode_candidates
from solo_jax.methods.solov2.decode import make_grids
from solo_jax.methods.solov2.network import Outputs

SETTINGS = dict(
  strides=(8,),
  score_threshold=0.1,
  mask_threshold=0.5,
  max_candidates=100,
  nms_candidates=100,
  nms_kernel="gaussian",
  nms_sigma=2.0,
  update_threshold=0.05,
  max_detections=6,
)


def scene(num_images=1, seed=0):
  """Random outputs of one 12 x 12 level."""
  rng = np.random.default_rng(seed)
  category = rng.normal(-2.5, 2.0, (num_images, 12, 12, 3))
  kernel = rng.normal(size=(num_images, 12, 12, 5))
  feature = rng.normal(size=(num_images, 16, 16, 5))
  category, kernel, feature = (
    jnp.asarray(x, jnp.float32) for x in (category, kernel, feature)
  )
  return Outputs((category,), (kernel,), feature)


def run(outputs, **overrides):
  settings = DecodeSettings(**SETTINGS | overrides)
  return jax.jit(lambda x: decode_candidates(make_grids(x), settings))(outputs)


def one_hot_outputs():
  """Two cells that draw rectangles of 2 x 4 and 4 x 4 mask pixels."""
  category = np.full((1, 12, 12, 2), -9.0, np.float32)
  kernel = np.zeros((1, 12, 12, 2), np.float32)
  feature = np.full((1, 16, 16, 2), -4.0, np.float32)
  feature[0, 2:4, 4:8, 0] = 2.0
  feature[0, 8:12, 8:12, 1] = 3.0
  category[0, 2, 3, 1], kernel[0, 2, 3] = 0.5, (1, 0)
  category[0, 9, 9, 0], kernel[0, 9, 9] = 1.5, (0, 1)
  return Outputs(
    (jnp.asarray(category),), (jnp.asarray(kernel),), jnp.asarray(feature)
  )


def test_scores_are_products_of_class_score_and_maskness():
  result = run(one_hot_outputs(), strides=(7,))

  def sigmoid(x):
    return 1 / (1 + np.exp(-x))

  # Score times maskness (the mean probability inside the mask).
  expected = [sigmoid(1.5) * sigmoid(3.0), sigmoid(0.5) * sigmoid(2.0)]
  np.testing.assert_allclose(result.scores[0, :2], expected, rtol=1e-5)
  np.testing.assert_array_equal(result.labels[0, :2], [0, 1])
  np.testing.assert_array_equal(result.valid[0], np.arange(6) < 2)
  masks = np.asarray(result.masks.probs[0] > 0.5)
  assert masks[0, 8:12, 8:12].all() and masks[0].sum() == 16
  assert masks[1, 2:4, 4:8].all() and masks[1].sum() == 8


def test_area_must_exceed_the_stride():
  result = run(one_hot_outputs(), strides=(8,))
  np.testing.assert_array_equal(result.valid[0], np.arange(6) < 1)


def test_nothing_above_the_threshold():
  result = run(scene(), score_threshold=1.0)
  assert not result.valid.any() and not result.scores.any()


def test_batch_equals_one_by_one():
  outputs = scene(num_images=3)
  together = run(outputs)
  for i in range(3):
    alone = run(jax.tree.map(lambda x, i=i: x[i : i + 1], outputs))
    jax.tree.map(
      lambda x, y, i=i: np.testing.assert_array_equal(x[i : i + 1], y),
      together,
      alone,
    )


def test_capacity_ladder_changes_nothing():
  """More capacity than candidates: every rung gives the same result."""
  outputs = scene()
  num_candidates = int(run(outputs, max_candidates=1).num_dropped[0]) + 1
  assert 64 < num_candidates < 128
  small = run(outputs, max_candidates=num_candidates, nms_candidates=432)
  large = run(outputs, max_candidates=432, nms_candidates=432)
  assert small.num_dropped[0] == 0
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), small, large
  )


def test_dropped_candidates_are_counted():
  outputs = scene()
  from solo_jax.grouping.points_nms import points_nms

  probs = points_nms(jax.nn.sigmoid(outputs.category_logits[0]))
  above = int((probs > 0.1).sum())
  assert int(run(outputs, max_candidates=10).num_dropped[0]) == above - 10


@pytest.mark.golden("infer_solov2*.npz")
def test_fixture(golden, golden_decode_settings, assert_golden_detections):
  outputs = Outputs(
    golden.levels("cls_logit"),
    golden.levels("kernel_pred"),
    golden["mask_feats"].transpose(0, 2, 3, 1),
  )
  assert_golden_detections(run(outputs, **golden_decode_settings))
