"""Tests of solo_jax/grouping/groups.py."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from solo_jax.grouping.groups import Pixels, assign_to_centers
from solo_jax.grouping.mean_shift import mean_shift
from solo_jax.grouping.seed_clustering import seed_clustering
from solo_jax.grouping.tag_histogram import tag_histogram


@pytest.fixture
def assign(scene):
  """Assigns the scene's pixels to the true means."""
  centers = scene.means[1:]
  return functools.partial(
    assign_to_centers,
    centers=centers,
    center_category=np.zeros(len(centers), np.int32),
    center_valid=np.ones(len(centers), bool),
    min_pixels=1,
    num_dropped=np.int32(0),
  )


def test_true_centers_give_the_true_instances(scene, assign):
  groups = assign(Pixels(*scene.pixels()))
  np.testing.assert_array_equal(groups.assignment, scene.truth)
  assert groups.valid.all()
  for i in range(1, 5):
    np.testing.assert_allclose(
      groups.centers[i - 1],
      scene.embedding[scene.truth == i].mean(axis=0),
      rtol=1e-5,
      atol=1e-5,
    )


def test_equals_a_loop_over_pixels(scene, assign):
  """With noise as wide as the gaps, radii and categories that differ."""
  rng = np.random.default_rng(2)
  scene.embedding += np.float32(rng.normal(0, 2, scene.embedding.shape))
  scene.log_precision = np.float32(rng.normal(-1, 1, 60))
  scene.category = rng.integers(0, 2, 60).astype(np.int32)
  center_category = np.int32([0, 1, 0, 1])
  center_valid = np.array([True, True, True, False])
  expected = np.zeros(60, int)
  for q in np.flatnonzero(scene.foreground):
    squares = np.sum((scene.embedding[q] - scene.means[1:]) ** 2, axis=1)
    squares[center_category != scene.category[q]] = np.inf
    squares[~center_valid] = np.inf
    if squares.min() * np.exp(scene.log_precision[q]) < 1:
      expected[q] = squares.argmin() + 1
  assert len(set(expected)) == 4  # none, and three centres
  groups = assign(
    Pixels(*scene.pixels()),
    center_category=center_category,
    center_valid=center_valid,
  )
  np.testing.assert_array_equal(groups.assignment, expected)
  weights = expected == 1
  np.testing.assert_allclose(
    groups.log_precision[0],
    np.average(scene.log_precision, weights=weights),
    rtol=1e-5,
  )


def test_small_groups_are_left_out(scene, assign):
  groups = assign(Pixels(*scene.pixels()), min_pixels=6)
  np.testing.assert_array_equal(groups.valid, [True, False, True, True])
  kept = np.where(scene.truth == 2, 0, scene.truth)
  np.testing.assert_array_equal(groups.assignment, kept)


def test_without_foreground_or_centers_nothing_is_assigned(scene, assign):
  *rest, foreground = scene.pixels()
  groups = assign(Pixels(*rest, np.zeros_like(foreground)))
  assert not groups.valid.any() and not groups.assignment.any()
  groups = assign(Pixels(*scene.pixels()), center_valid=np.zeros(4, bool))
  assert not groups.valid.any() and not groups.assignment.any()
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(groups))


def test_a_common_offset_does_not_move_a_pixel(scene, assign):
  """Products of large numbers would cancel."""
  offset = np.float32([1000, -500])
  scene.embedding += offset
  groups = assign(Pixels(*scene.pixels()), centers=scene.means[1:] + offset)
  np.testing.assert_array_equal(groups.assignment, scene.truth)


LIMITS = dict(max_groups=4, min_pixels=2)
GROUPINGS = {
  "seed_clustering": functools.partial(
    seed_clustering,
    seed=jnp.full(24, 0.9),
    seed_threshold=0.5,
    min_unclaimed=0.5,
    **LIMITS,
  ),
  "tag_histogram": functools.partial(tag_histogram, num_categories=2, **LIMITS),
  "mean_shift": functools.partial(mean_shift, num_samples=16, **LIMITS),
}
GROUPINGS = {name: jax.jit(group) for name, group in GROUPINGS.items()}
FINITE = st.floats(-30, 30, width=32) | st.integers(-3, 3)
ANY = FINITE | st.floats(width=32)


@pytest.mark.parametrize("name", GROUPINGS)
@hypothesis.given(
  st.sampled_from([FINITE, ANY]).flatmap(
    lambda numbers: st.tuples(
      st_numpy.arrays(np.float32, (24, 2), elements=numbers),
      st_numpy.arrays(np.float32, 24, elements=numbers),
    )
  ),
  st_numpy.arrays(np.int32, 24, elements=st.integers(0, 1)),
  st_numpy.arrays(bool, 24),
)
def test_any_maps_are_grouped_as_promised(name, maps, category, foreground):
  """Tags of any size, and NaN, as from a network that diverged."""
  groups = jax.tree.map(
    np.asarray, GROUPINGS[name](Pixels(*maps, category, foreground))
  )
  assignment = groups.assignment
  assert assignment.min() >= 0 and assignment.max() <= 4
  assert not assignment[~foreground].any()
  assert groups.num_dropped >= 0
  for i, is_valid in enumerate(groups.valid, 1):
    members = assignment == i
    # Fewer pixels than that are no group, and no pixel is left in one.
    assert is_valid == (members.sum() >= 2) and (is_valid or not members.any())
    assert len(np.unique(category[members])) <= 1
    if is_valid and np.isfinite(maps[0]).all():
      assert np.isfinite(groups.centers[i - 1]).all()
