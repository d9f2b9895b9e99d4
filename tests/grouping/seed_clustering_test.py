"""Tests of solo_jax/grouping/seed_clustering.py."""

import functools

import jax
import numpy as np
import pytest

from benchmarks.grouping_scene import make_scene, mean_iou
from solo_jax.grouping.groups import Pixels
from solo_jax.grouping.seed_clustering import seed_clustering

LIMITS = dict(max_groups=6, seed_threshold=0.5, min_pixels=3, min_unclaimed=0.5)


@functools.partial(jax.jit, static_argnames=tuple(LIMITS))
def group(embedding, log_precision, seed, category, foreground, **limits):
  pixels = Pixels(embedding, log_precision, category, foreground)
  return seed_clustering(pixels, seed, **LIMITS | limits)


def arguments(scene, seed=None):
  embedding, precision, category, foreground = scene.pixels()
  if seed is None:
    seed = np.full(len(embedding), 0.9, np.float32)
  return embedding, precision, seed, category, foreground


def by_loop(embedding, precision, seed, category, foreground, limits):
  """The algorithm with lists, one pixel set after another."""
  radius2 = np.exp(-np.float64(precision))
  free = set(np.flatnonzero(foreground))
  assignment = np.zeros(len(embedding), int)
  count = 0
  for _ in range(4 * limits["max_groups"]):
    seeds = [q for q in sorted(free) if seed[q] >= limits["seed_threshold"]]
    if not seeds:
      break
    best = max(seeds, key=lambda q: (seed[q], -q))

    def near(center, radius2, best=best):
      squares = np.sum((embedding - center) ** 2, axis=1)
      same = foreground & (category == category[best])
      return set(np.flatnonzero(same & (squares < radius2)))

    first = near(embedding[best], radius2[best]) & free
    rows = sorted(first)
    precision_mean = np.mean(precision[rows])
    whole = near(embedding[rows].mean(axis=0), np.exp(-precision_mean))
    members = whole & free
    if len(members) >= limits["min_pixels"] and len(members) >= limits[
      "min_unclaimed"
    ] * len(whole):
      count += 1
      if count <= limits["max_groups"]:
        assignment[sorted(members)] = count
      free -= members
    else:
      free -= first
    free.discard(best)
  return assignment, count


def test_apart_instances_are_found(scene, is_same_partition):
  groups = group(*arguments(scene))
  assert is_same_partition(scene.truth, groups.assignment)
  np.testing.assert_array_equal(groups.valid, [True] * 4 + [False] * 2)
  assert groups.num_dropped == 0


@pytest.mark.parametrize("draw", range(3))
def test_equals_the_algorithm_with_sets(scene, draw):
  """Where instances run into each other, with seeds and radii of all sizes."""
  rng = np.random.default_rng(draw)
  scene.embedding += np.float32(rng.normal(0, 1.2, scene.embedding.shape))
  scene.log_precision = np.float32(rng.normal(0, 0.5, 60))
  scene.category = rng.integers(0, 2, 60).astype(np.int32)
  seed = np.float32(rng.permutation(60) / 60)
  expected, count = by_loop(*arguments(scene, seed), limits=LIMITS)
  groups = group(*arguments(scene, seed))
  assert count > 2
  np.testing.assert_array_equal(groups.assignment, expected)
  assert np.sum(groups.valid) == min(count, 6)


def test_order_of_instances_does_not_matter(scene, is_same_partition):
  scene.renumber([3, 1, 4, 2])
  groups = group(*arguments(scene))
  assert is_same_partition(scene.truth, groups.assignment)


def test_order_of_pixels_does_not_matter(scene, is_same_partition):
  order = np.random.default_rng(3).permutation(60)
  groups = group(*[x[order] for x in arguments(scene)])
  assert is_same_partition(scene.truth[order], groups.assignment)


def test_background_of_equal_tags_changes_nothing(scene, is_same_partition):
  scene.pad(40)
  groups = group(*arguments(scene))
  assert is_same_partition(scene.truth, groups.assignment)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4, 0.9])
def test_every_capacity_gives_the_same_groups(share, is_same_partition):
  """Foreground of an eighth, a quarter, a half and more of the pixels."""
  rng = np.random.default_rng(4)
  truth = np.where(rng.random(100) < share, rng.integers(1, 3, 100), 0)
  means = np.float32([[0, 0], [3, 3], [-3, -3]])
  groups = group(
    means[truth],
    np.zeros(100, np.float32),
    np.ones(100, np.float32),
    np.zeros(100, np.int32),
    truth > 0,
  )
  assert is_same_partition(truth, groups.assignment)


def test_equal_embeddings_of_two_categories_are_two_groups(scene):
  scene.embedding[:] = 0
  scene.category = np.int32(scene.truth % 2)
  groups = group(*arguments(scene))
  for label in (0, 1):
    mine = scene.foreground & (scene.category == label)
    assert len(set(np.asarray(groups.assignment)[mine])) == 1
  assert np.sum(groups.valid) == 2


def test_groups_beyond_the_capacity_are_counted(crowd):
  """Equal seeds are tried in raster order; two pixels are no group."""
  groups = group(*arguments(crowd))
  assert groups.num_dropped == 3
  assert groups.valid.all()
  np.testing.assert_array_equal(
    groups.assignment, np.where(crowd.truth <= 6, crowd.truth, 0)
  )


@pytest.mark.parametrize(("num_lone", "expected"), [(23, True), (24, False)])
def test_four_seeds_are_tried_for_each_group_that_fits(
  scene, num_lone, expected
):
  """Lone pixels of higher seeds use up the 24 tries of 6 groups."""
  lone = np.arange(60) < num_lone
  line = np.where(lone, 5 * np.arange(60), -5)
  scene.embedding = np.float32(np.stack([line, 0 * line], axis=1))
  scene.foreground[:] = True
  groups = group(*arguments(scene, np.where(lone, 0.9, 0.8).astype(np.float32)))
  np.testing.assert_array_equal(groups.assignment, ~lone & expected)
  assert groups.num_dropped == (0 if expected else np.sum(~lone))


def test_groups_below_min_pixels_are_left_out(scene):
  scene.foreground[np.flatnonzero(scene.truth == 2)[2:]] = False
  groups = group(*arguments(scene))
  np.testing.assert_array_equal(
    np.asarray(groups.assignment) > 0, scene.foreground & (scene.truth != 2)
  )


def test_pixels_below_the_threshold_are_no_seeds_but_members(scene):
  seed = np.full(60, 0.4, np.float32)
  first = np.flatnonzero(scene.truth == 3)[0]
  seed[first] = 0.8
  groups = group(*arguments(scene, seed))
  np.testing.assert_array_equal(groups.assignment, scene.truth == 3)


def test_no_foreground_and_no_seed_give_no_group(scene):
  for foreground, value in ((scene.foreground & False, 0.9), (None, 0.1)):
    args = list(arguments(scene, np.full(60, value, np.float32)))
    if foreground is not None:
      args[-1] = foreground
    groups = group(*args)
    assert not groups.valid.any() and not groups.assignment.any()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(groups))


def test_a_seed_that_claims_nothing_ends(scene):
  """A radius of nearly 0 gathers not even the seed; the loop must continue."""
  scene.log_precision[:] = 200
  groups = group(*arguments(scene))
  assert not groups.valid.any()


def test_a_batch_equals_its_images(scene):
  images = [arguments(scene), [x[::-1] for x in arguments(scene)]]
  stacked = [np.stack(x) for x in zip(*images, strict=True)]
  both = jax.vmap(group)(*stacked)
  for i, image in enumerate(images):
    alone = group(*image)
    np.testing.assert_array_equal(both.assignment[i], alone.assignment)
    np.testing.assert_array_equal(both.valid[i], alone.valid)


@pytest.mark.parametrize(("noise", "expected"), [(0.3, 0.95), (0.5, 0.8)])
def test_noisy_tags_with_seeds_that_tell_nothing(noise, expected):
  scene = make_scene(0, size=(50, 84), num_objects=12, noise=noise)
  radius = 5 * noise  # 8 dimensions: the noise is 2.8 times as long
  groups = group(
    scene.embedding,
    np.full(scene.truth.size, -2 * np.log(radius), np.float32),
    scene.seed,
    np.zeros(scene.truth.size, np.int32),
    scene.foreground,
    max_groups=40,
    min_pixels=4,
  )
  assert mean_iou(scene.truth, np.asarray(groups.assignment)) >= expected
