"""Tests of solo_jax/grouping/mean_shift.py."""

import functools

import jax
import numpy as np
import pytest

from benchmarks.grouping_scene import make_scene, mean_iou
from solo_jax.grouping.groups import Pixels
from solo_jax.grouping.mean_shift import mean_shift

LIMITS = dict(max_groups=6, min_pixels=3, num_samples=64, num_iterations=8)


@functools.partial(jax.jit, static_argnames=tuple(LIMITS))
def group(*pixels, **limits):
  return mean_shift(Pixels(*pixels), **LIMITS | limits)


def test_apart_instances_are_found(scene, is_same_partition):
  groups = group(*scene.pixels())
  assert is_same_partition(scene.truth, groups.assignment)
  # Every pixel is a sample here: the largest comes first.
  np.testing.assert_array_equal(
    np.bincount(groups.assignment)[1:], [20, 14, 10, 5]
  )


def test_modes_equal_a_loop_over_samples():
  """A chain of tags that climbs to its two dense ends."""
  rng = np.random.default_rng(6)
  tags = np.concatenate([rng.normal(0, 0.4, 30), rng.normal(2.2, 0.4, 30)])
  tags = np.float32(tags)[:, None]
  modes = tags.astype(np.float64)
  for _ in range(LIMITS["num_iterations"]):
    near = np.abs(modes - tags.T) < 1
    modes = (near @ tags / near.sum(1, keepdims=True)).astype(np.float64)
  near = np.abs(modes - tags.T) < 1
  kept = []
  for i in np.argsort(-near.sum(1), kind="stable"):
    if all(abs(modes[i, 0] - m) >= 1 for m in kept):
      kept.append(modes[i, 0])
  nearest = np.abs(tags - kept).argmin(axis=1)
  inside = np.abs(tags - kept).min(axis=1) < 1
  groups = group(
    np.pad(tags, ((0, 0), (0, 1))),
    np.zeros(60, np.float32),
    np.zeros(60, np.int32),
    np.ones(60, bool),
  )
  assert len(kept) == 2
  np.testing.assert_array_equal(
    groups.assignment, np.where(inside, nearest + 1, 0)
  )


def test_order_of_instances_does_not_matter(scene, is_same_partition):
  scene.renumber([3, 1, 4, 2])
  groups = group(*scene.pixels())
  assert is_same_partition(scene.truth, groups.assignment)


def test_order_of_pixels_does_not_matter(scene, is_same_partition):
  order = np.random.default_rng(3).permutation(60)
  groups = group(*scene.pixels(order))
  assert is_same_partition(scene.truth[order], groups.assignment)


def test_background_of_equal_tags_changes_nothing(scene, is_same_partition):
  scene.pad(40)
  groups = group(*scene.pixels())
  assert is_same_partition(scene.truth, groups.assignment)


def test_equal_tags_of_two_categories_are_two_groups(scene):
  scene.embedding[:] = 7
  scene.category = np.int32(scene.truth % 2)
  groups = group(*scene.pixels())
  assert np.sum(groups.valid) == 2
  for label in (0, 1):
    mine = scene.foreground & (scene.category == label)
    assert len(set(np.asarray(groups.assignment)[mine])) == 1


def test_groups_beyond_the_capacity_are_counted(crowd):
  groups = group(*crowd.pixels())
  assert groups.num_dropped == 4
  np.testing.assert_array_equal(
    np.bincount(groups.assignment), [14, 10, 9, 8, 7, 6, 6]
  )


def test_few_samples_still_find_what_is_large(scene):
  """16 samples of 49 pixels; each instance has one at least, here."""
  groups = group(*scene.pixels(), num_samples=16)
  large = scene.truth == 1
  assert len(set(np.asarray(groups.assignment)[large])) == 1


def test_no_foreground_gives_no_group(scene):
  embedding, precision, category, foreground = scene.pixels()
  groups = group(embedding, precision, category, foreground & False)
  assert not groups.valid.any() and not groups.assignment.any()
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(groups))


def test_a_batch_equals_its_images(scene):
  order = np.random.default_rng(5).permutation(60)
  images = [scene.pixels(), scene.pixels(order)]
  stacked = [np.stack(x) for x in zip(*images, strict=True)]
  both = jax.vmap(group)(*stacked)
  for i, image in enumerate(images):
    np.testing.assert_array_equal(both.assignment[i], group(*image).assignment)


@pytest.mark.parametrize(("noise", "expected"), [(0.3, 0.95), (0.5, 0.8)])
def test_noisy_tags(noise, expected):
  scene = make_scene(0, size=(50, 84), num_objects=12, noise=noise)
  groups = group(
    scene.embedding,
    np.full(scene.truth.size, -2 * np.log(5 * noise), np.float32),
    np.zeros(scene.truth.size, np.int32),
    scene.foreground,
    max_groups=40,
    min_pixels=4,
    num_samples=512,
  )
  assert mean_iou(scene.truth, np.asarray(groups.assignment)) >= expected
