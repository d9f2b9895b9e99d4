"""Tests of solo_jax/methods/point_rend/loss.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.point_rend import loss as module
from solo_jax.methods.point_rend.loss import (
  Points,
  draw_points,
  loss_of_features,
)
from solo_jax.methods.regions.sampling import match_regions
from tests.methods.region_checks import check_training
from tests.methods.region_scene import make_scene


def test_draws_are_uniform_and_of_the_image():
  points = Points(number=8, candidates=3, uncertain_share=0.75)
  keys = jax.random.split(jax.random.key(0), 2)
  candidates, random = draw_points(keys, 40, points)
  assert candidates.shape == (2, 40, 24, 2)
  assert random.shape == (2, 40, 2, 2)
  assert 0.45 < float(candidates.mean()) < 0.55
  assert float(candidates.min()) >= 0
  assert float(candidates.max()) < 1
  alone, _ = draw_points(keys[1:], 40, points)
  np.testing.assert_array_equal(alone[0], candidates[1])


def recorded_draws(golden, regions_of_image):
  """The file's random numbers in the slots of their regions.

  They were drawn for the positive regions of all images in turn, which come
  first in our slots, in the same order.
  """

  def draw(_, num_regions, points):
    num_random = golden["point_random"].shape[1]
    found = []
    for name in ("point_candidates", "point_random"):
      values, start = golden[name], 0
      slots = np.zeros(
        (len(regions_of_image), num_regions, *values.shape[1:]), np.float32
      )
      for i, count in enumerate(regions_of_image):
        slots[i, :count] = values[start : start + count]
        start += count
      assert start == len(values)
      found.append(jnp.asarray(slots))
    assert num_random == points.number - int(
      points.uncertain_share * points.number
    )
    return found

  return draw


def count_positives(golden, scene):
  """Positive regions of each image: proposals that match, and instances."""
  counts = []
  (matching,) = scene.settings["stages"].matchings
  for i in range(len(scene.image_size)):
    proposals = golden[f"train_proposals_{i}"]
    instances = scene.batch.boxes_xyxy[i], scene.batch.valid[i]
    _, kind = match_regions(
      proposals, np.ones(len(proposals), bool), instances, matching
    )
    counts.append(int((kind == 1).sum() + instances[1].sum()))
  return counts


@pytest.mark.golden("model_point_rend_*.npz")
def test_fixture(golden, monkeypatch, pool_by_products):
  scene = make_scene(golden)
  train = golden.config["merged"]["train_cfg"]["rcnn"]
  points = Points(
    number=golden.config["points"]["train"],
    candidates=train["oversample_ratio"],
    uncertain_share=train["importance_sample_ratio"],
  )
  draws = recorded_draws(golden, count_positives(golden, scene))
  monkeypatch.setattr(module, "draw_points", draws)
  check_training(
    golden,
    scene,
    functools.partial(loss_of_features, points=points, **scene.settings),
  )
