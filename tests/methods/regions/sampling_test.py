"""Tests of solo_jax/methods/regions/sampling.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solo_jax.methods.regions.matching import Matching
from solo_jax.methods.regions.sampling import (
  Regions,
  Sampling,
  match_regions,
  sample,
  sample_regions,
  take_instances,
)

MATCHING = Matching(high=0.5, low=0.5, low_quality="none", lower_bound=0.5)
draw_regions = jax.jit(sample_regions, static_argnums=(3, 4))


def test_draws_are_uniform_and_without_ignored_ones():
  kind = jnp.asarray([1] * 6 + [0] * 6 + [-1] * 3)
  sampling = Sampling(number=6, positive_share=0.5)
  keys = jax.random.split(jax.random.key(0), 2000)
  positive, background = map(
    np.asarray,
    jax.jit(jax.vmap(lambda key: sample(key, kind, sampling)))(keys),
  )
  np.testing.assert_array_equal(positive.sum(1), 3)
  np.testing.assert_array_equal(background.sum(1), 3)
  share = (positive | background).mean(0)
  # 0.5 +- 5 deviations of 2000 draws.
  np.testing.assert_allclose(share[:12], 0.5, atol=0.056)
  assert not share[12:].any()


@pytest.fixture
def scene():
  instances = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [0, 0, 0, 0]])
  boxes = np.array(
    [[1, 1, 10, 10], [50, 50, 60, 60], [22, 20, 40, 40], [0, 0, 0, 0]]
  )
  return boxes.astype(np.float32), instances.astype(np.float32)


def regions(scene, number, valid=(True, True, True, False)):
  boxes, instances = scene
  return draw_regions(
    jax.random.key(3),
    (boxes, np.asarray(valid)),
    (instances, np.array([True, True, True])),
    MATCHING,
    Sampling(number=number, positive_share=0.75),
  )


def test_instances_come_first_and_slots_are_as_many_as_needed(scene):
  found = regions(scene, number=100)
  # Two instances (the third has no area), two positive boxes, a background.
  assert found.boxes.shape == (7, 4)
  np.testing.assert_array_equal(found.valid, [True] * 5 + [False] * 2)
  np.testing.assert_array_equal(found.is_positive, [True] * 4 + [False] * 3)
  np.testing.assert_array_equal(found.is_instance, [True] * 2 + [False] * 5)
  np.testing.assert_array_equal(found.instance[:4], [0, 1, 0, 1])
  boxes, instances = scene
  np.testing.assert_array_equal(found.boxes[:2], instances[:2])
  np.testing.assert_array_equal(found.boxes[2:5], boxes[[0, 2, 1]])


def test_fewer_slots_than_candidates(scene):
  found = regions(scene, number=4)
  np.testing.assert_array_equal(found.valid, [True] * 4)
  np.testing.assert_array_equal(found.is_positive, [True] * 3 + [False])


def test_proposals_that_all_miss_leave_the_instances(scene):
  boxes, instances = scene
  found = regions((boxes[1:2].repeat(4, 0), instances), number=8)
  assert int(found.is_positive.sum()) == 2
  assert int(found.valid.sum()) == 5


def test_no_proposals_and_no_instances(scene):
  boxes, instances = scene
  found = regions((boxes, instances * 0), 8, valid=(False,) * 4)
  assert not np.asarray(found.valid).any()
  found = draw_regions(
    jax.random.key(0),
    (boxes, np.ones(4, bool)),
    (np.zeros((0, 4), np.float32), np.zeros(0, bool)),
    MATCHING,
    Sampling(number=4, positive_share=0.25),
  )
  assert np.asarray(found.valid).all()
  assert not np.asarray(found.is_positive).any()


def test_boxes_that_are_not_valid_are_ignored(scene):
  boxes, instances = scene
  valid = np.array([False, True, True, False])
  find = jax.jit(match_regions, static_argnums=3)
  _, kind = find(boxes, valid, (instances, np.ones(3, bool)), MATCHING)
  np.testing.assert_array_equal(kind, [-1, 0, 1, -1])


@pytest.mark.golden("rcnn_matching*.npz")
def test_fixture(golden):
  counts, rows = golden["sampled_counts"], golden.config["sampling"]
  most = max(sum(kinds) for _, _, *kinds in rows)
  draw = jax.jit(sample, static_argnums=2)
  for row, expected in zip(rows, counts, strict=True):
    number, share, *kinds = row
    kind = np.full(most, -1)  # more that never count: one shape
    kind[: sum(kinds)] = np.repeat([1, 0, -1], kinds)
    positive, background = draw(
      jax.random.key(0), kind, Sampling(number=number, positive_share=share)
    )
    found = [int(positive.sum()), int(background.sum())]
    np.testing.assert_array_equal(found * 2, expected)


def test_each_region_takes_what_its_instance_has():
  regions = Regions(
    boxes=np.zeros((2, 2, 4)),
    valid=np.ones((2, 2), bool),
    is_positive=np.ones((2, 2), bool),
    instance=np.array([[1, 0], [0, 0]]),
    is_instance=np.zeros((2, 2), bool),
  )
  values = np.array([[10, 11], [20, 21]])
  np.testing.assert_array_equal(
    take_instances(values, regions), [[11, 10], [20, 20]]
  )
