"""Tests of solo_jax/grouping/tag_histogram.py."""

import functools

import jax
import numpy as np
import pytest

from solo_jax.grouping.groups import Pixels
from solo_jax.grouping.tag_histogram import MAX_BINS, tag_histogram

LIMITS = dict(num_categories=2, max_groups=6, min_pixels=3)


@functools.partial(jax.jit, static_argnames=tuple(LIMITS))
def group(*pixels, **limits):
  return tag_histogram(Pixels(*pixels), **LIMITS | limits)


def by_loop(tags, precision, category, foreground, limits):
  """The algorithm on lists of tags by bin; all radii are 1."""
  low = tags[foreground].min(axis=0)
  cells = np.floor((tags - low) * 2).astype(int)  # bins of half a radius
  peaks = []
  for label in range(limits["num_categories"]):
    mine = foreground & (category == label)
    grid = np.stack(np.mgrid[-2 : cells.max() + 3, -2 : cells.max() + 3], -1)
    counted = {  # the tags in the 3 x 3 bins around each bin
      tuple(cell): mine & (np.abs(cells - cell).max(axis=1) <= 1)
      for cell in grid.reshape(-1, 2)
    }
    heights = {cell: near.sum() for cell, near in counted.items()}
    for cell, height in heights.items():
      around = [
        (heights.get((cell[0] + i, cell[1] + j), 0), (cell[0] + i, cell[1] + j))
        for i in range(-2, 3)
        for j in range(-2, 3)
      ]  # of equal ones the last stands for all
      if height >= limits["min_pixels"] and max(around)[1] == cell:
        center = tags[counted[cell]].mean(axis=0)
        peaks.append((-height, label, cell, center))
  peaks = sorted(peaks, key=lambda x: x[:3])[: limits["max_groups"]]
  assignment = np.zeros(len(tags), int)
  for q in np.flatnonzero(foreground):
    squares = [
      np.sum((tags[q] - center) ** 2) if label == category[q] else np.inf
      for _, label, _, center in peaks
    ]
    if min(squares) < 1:
      assignment[q] = np.argmin(squares) + 1
  sizes = np.bincount(assignment, minlength=len(peaks) + 1)
  return np.where(sizes[assignment] >= limits["min_pixels"], assignment, 0)


@pytest.mark.parametrize("num_tags", [1, 2])
def test_apart_instances_are_found(scene, is_same_partition, num_tags):
  if num_tags == 1:  # on a line
    offset = scene.embedding[:, :1] - scene.means[scene.truth, :1]
    scene.embedding = np.float32(5 * scene.truth[:, None] + offset)
  groups = group(*scene.pixels())
  assert is_same_partition(scene.truth, groups.assignment)
  assert np.sum(groups.valid) == 4
  # By the height of the peak: 20, 14, 10 and 5 pixels.
  sizes = np.bincount(groups.assignment)[1:]
  np.testing.assert_array_equal(sizes, [20, 14, 10, 5])


def test_equals_a_loop_over_bins(scene):
  """Where instances run into each other, in two categories."""
  rng = np.random.default_rng(7)
  scene.embedding += np.float32(rng.normal(0, 0.7, scene.embedding.shape))
  scene.category = rng.integers(0, 2, 60).astype(np.int32)
  expected = by_loop(*scene.pixels(), limits=LIMITS)
  assert len(set(expected)) > 3
  groups = group(*scene.pixels())
  np.testing.assert_array_equal(groups.assignment, expected)


def test_the_best_of_close_peaks_stands_for_both():
  """Bins are half a radius; what is within two of them is one instance."""
  tags = np.repeat(np.float32([[0], [0.9], [5]]), [9, 4, 6], axis=0)
  count = len(tags)
  groups = group(
    tags,
    np.zeros(count, np.float32),
    np.zeros(count, np.int32),
    np.ones(count, bool),
  )
  np.testing.assert_array_equal(
    groups.assignment, np.repeat([1, 1, 2], [9, 4, 6])
  )


def test_order_of_instances_does_not_matter(scene, is_same_partition):
  scene.renumber([3, 1, 4, 2])
  groups = group(*scene.pixels())
  assert is_same_partition(scene.truth, groups.assignment)


def test_order_of_pixels_does_not_matter(scene, is_same_partition):
  order = np.random.default_rng(3).permutation(60)
  groups = group(*scene.pixels(order))
  assert is_same_partition(scene.truth[order], groups.assignment)


def test_far_background_sets_no_range(scene, is_same_partition):
  scene.embedding[~scene.foreground] = 1e6
  groups = group(*scene.pixels())
  assert is_same_partition(scene.truth, groups.assignment)


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
  # The instance of 2 pixels is below min_pixels: no peak, not dropped.
  assert groups.num_dropped == 3
  np.testing.assert_array_equal(
    np.bincount(groups.assignment), [14, 10, 9, 8, 7, 6, 6]
  )


def test_a_group_of_the_last_of_many_categories_is_one_peak():
  """Equal tags fill a flat top of bins, which counts once."""
  tags = np.repeat(np.float32([[0, 0], [10.5, 20.75]]), 5, axis=0)
  groups = group(
    tags,
    np.zeros(10, np.float32),
    np.full(10, 599, np.int32),
    np.ones(10, bool),
    num_categories=600,
    max_groups=2,
  )
  np.testing.assert_array_equal(groups.assignment, np.repeat([1, 2], 5))
  assert groups.num_dropped == 0


def test_a_range_wider_than_the_bins_gets_wider_bins():
  """Two instances 10,000 radii apart, and both within the table."""
  tags = np.repeat(np.float32([[0, 0], [1e4, 1e4]]), 5, axis=0)
  assert 1e4 > 10 * MAX_BINS
  groups = group(
    tags,
    np.full(10, -2 * np.log(100.0), np.float32),
    np.zeros(10, np.int32),
    np.ones(10, bool),
  )
  np.testing.assert_array_equal(groups.assignment, np.repeat([1, 2], 5))


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


def test_more_dimensions_are_refused():
  pixels = np.zeros((4, 3), np.float32), np.zeros(4), np.zeros(4, np.int32)
  with pytest.raises(ValueError, match=r"1 or 2 dimensions, got 3; use"):
    tag_histogram(Pixels(*pixels, np.ones(4, bool)), **LIMITS)
