"""Tests of solo_jax/methods/associative_embedding/targets.py."""

import dataclasses

import numpy as np

from solo_jax.methods.associative_embedding.targets import (
  inside_image,
  make_targets,
)
from tests.methods.associative_embedding.conftest import SIZE, make_batch
from tests.target_masks import pack_coverage

MAP = (SIZE, SIZE)


def test_pixels_of_squares_by_hand(batch):
  targets = make_targets(batch, MAP)
  foreground = np.zeros(MAP)
  foreground[1:6, 1:6] = 1
  foreground[2:6, 6:10] = 1
  foreground[9:15, 2:8] = 1
  np.testing.assert_array_equal(targets.foreground[0].reshape(MAP), foreground)
  owner = targets.owner[0].reshape(MAP)
  label = targets.label[0].reshape(MAP)
  for i, (x, y, side, category) in enumerate(((1, 1, 5, 0), (6, 2, 4, 2))):
    assert (owner[y : y + side, x : x + side] == i).all()
    assert (label[y : y + side, x : x + side] == category).all()
  np.testing.assert_array_equal(targets.valid, [[True] * 3 + [False] * 2])


def test_bits_equal_coverage():
  soft = make_targets(make_batch(), MAP)
  bits = make_targets(make_batch(soft=False), MAP)
  for name in ("foreground", "owner", "label", "valid"):
    np.testing.assert_array_equal(getattr(soft, name), getattr(bits, name))


def test_the_smaller_of_two_that_cover_a_pixel_owns_it():
  """A face on a person: both masks hold the pixel."""
  batch = make_batch(((0, 0, 8, 1), (2, 2, 3, 2)))
  owner = make_targets(batch, MAP).owner[0].reshape(MAP)
  assert (owner[2:5, 2:5] == 1).all() and owner[0, 0] == 0
  # Coverage counts first: of a pixel half covered by it, the large one's.
  masks = batch.masks.data.copy()
  masks[0, 1, 2, 2] = 127
  batch = dataclasses.replace(batch, masks=pack_coverage(masks, stride=2))
  assert make_targets(batch, MAP).owner[0].reshape(MAP)[2, 2] == 0
  # Foreground stays a share, 1 at the most.
  assert make_targets(batch, MAP).foreground.max() == 1


def test_instances_without_pixels_are_not_valid(batch):
  masks = batch.masks.data.copy()
  masks[0, 1] = 0
  targets = make_targets(
    dataclasses.replace(batch, masks=pack_coverage(masks, stride=2)), MAP
  )
  np.testing.assert_array_equal(targets.valid[0, :3], [True, False, True])


def test_padding_instances_and_images_claim_nothing(batch):
  masks = batch.masks.data.copy()
  masks[0, 4] = 255  # garbage in a place that is not valid
  targets = make_targets(
    dataclasses.replace(batch, masks=pack_coverage(masks, stride=2)), MAP
  )
  assert targets.foreground.sum() == 25 + 16 + 36
  nothing = dataclasses.replace(batch, image_valid=np.array([False]))
  targets = make_targets(nothing, MAP)
  assert not targets.valid.any() and not targets.foreground.any()
  assert not targets.pixel_valid.any()


def test_padding_of_the_image_is_not_valid(batch):
  batch = dataclasses.replace(batch, image_size=np.int32([[20, 31]]))
  valid = make_targets(batch, MAP).pixel_valid[0].reshape(MAP)
  expected = np.zeros(MAP, bool)
  expected[:10, :16] = True  # the last column holds one input pixel
  np.testing.assert_array_equal(valid, expected)


def test_inside_image_of_each_image():
  inside = inside_image(np.int32([[4, 8], [8, 1]]), (2, 2), 4)
  np.testing.assert_array_equal(
    inside, [[True, True, False, False], [True, False, True, False]]
  )
